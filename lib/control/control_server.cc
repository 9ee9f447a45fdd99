#include "control/control_server.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <utility>

#include "control/log.h"

namespace postern {
namespace {

using boost::asio::local::stream_protocol;
using boost::system::error_code;

constexpr std::chrono::seconds kIdle{60};    // between requests
constexpr std::chrono::seconds kAnswer{30};  // for a handler
constexpr std::chrono::seconds kWrite{30};   // for the client to take the answer
constexpr std::chrono::milliseconds kAcceptRetry{100};
constexpr size_t kMostConnections = 64;

}  // namespace

class ControlServer::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ControlServer& server, stream_protocol::socket socket)
      : server_(server),
        socket_(std::move(socket)),
        deadline_(server.io_),
        count_(server.connections_) {
    ++*count_;
  }
  ~Connection() { --*count_; }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void read() {
    within(kIdle);
    boost::asio::async_read_until(
        socket_, boost::asio::dynamic_buffer(input_, kMaxControlRequest), '\n',
        [self = shared_from_this()](const error_code& error, size_t length) {
          if (!error) return self->on_line(length);
          self->deadline_.cancel();
          if (error == boost::asio::error::not_found) self->too_long();
        });
  }

  void refuse(std::string_view why) {
    last_ = true;
    ControlReply(sink()).error(why);
  }

 private:
  void on_line(size_t length) {
    const std::string line = input_.substr(0, length);
    input_.erase(0, length);
    within(kAnswer);
    server_.dispatch(line, ControlReply(sink()));
  }

  void too_long() { refuse("the request is longer than 64 KiB"); }

  ControlReply::Sink sink() {
    return [self = shared_from_this()](boost::json::object answer) {
      self->output_ = boost::json::serialize(answer) + '\n';
      self->write();
    };
  }

  void write() {
    within(kWrite);
    boost::asio::async_write(socket_, boost::asio::buffer(output_),
                             [self = shared_from_this()](const error_code& error, size_t) {
                               self->deadline_.cancel();
                               if (!error && !self->last_) self->read();
                             });
  }

  void within(std::chrono::seconds limit) {
    deadline_.expires_after(limit);
    deadline_.async_wait([weak = weak_from_this()](const error_code& error) {
      const auto self = weak.lock();
      if (error || !self) return;
      error_code ignored;
      self->socket_.close(ignored);
    });
  }

  ControlServer& server_;
  stream_protocol::socket socket_;
  boost::asio::steady_timer deadline_;
  std::string input_;
  std::string output_;
  bool last_ = false;
  std::shared_ptr<size_t> count_;
};

ControlServer::ControlServer(boost::asio::io_context& io, int listen_fd,
                             std::function<bool(const Credentials&)> allowed)
    : io_(io),
      acceptor_(io, stream_protocol(), listen_fd),
      retry_(io),
      allowed_(std::move(allowed)) {
  accept();
}

void ControlServer::handle(std::string verb, ControlHandler handler) {
  handlers_.insert_or_assign(std::move(verb), std::move(handler));
}

void ControlServer::accept() {
  acceptor_.async_accept([this](const error_code& error, stream_protocol::socket socket) {
    if (error == boost::asio::error::operation_aborted || !acceptor_.is_open()) return;
    if (error) {  // out of descriptors: the peer stays in the backlog
      spdlog::error("cannot accept on the control socket: {}", error.message());
      retry_.expires_after(kAcceptRetry);
      retry_.async_wait([this](const error_code& stopped) {
        if (!stopped) accept();
      });
      return;
    }
    try {
      const Credentials peer = peer_credentials(socket.native_handle());
      const auto connection = std::make_shared<Connection>(*this, std::move(socket));
      if (!allowed_(peer)) {
        connection->refuse("permission denied: be root or in the group of control.group");
      } else if (*connections_ > kMostConnections) {
        connection->refuse("too many connections to the control socket");
      } else {
        connection->read();
      }
    } catch (const std::exception& failure) {
      spdlog::error("control socket: {}", failure.what());
    }
    accept();
  });
}

void ControlServer::dispatch(std::string_view line, const ControlReply& reply) const {
  error_code error;
  const boost::json::value request = boost::json::parse(line, error);
  if (error || !request.is_object()) return reply.error("the request is not a JSON object");
  const boost::json::value* verb = request.as_object().if_contains("verb");
  if (verb == nullptr || !verb->is_string()) return reply.error("the request has no \"verb\"");
  const auto handler = handlers_.find(std::string_view(verb->as_string()));
  if (handler == handlers_.end()) {
    return reply.error("this posternd does not know the verb \"" + std::string(verb->as_string()) +
                       '"');
  }
  try {
    handler->second(request.as_object(), reply);
  } catch (const std::exception& failure) {
    reply.error(failure.what());
  }
}

void ControlServer::stop() {
  error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
}

}  // namespace postern
