#include "httpd/server.h"

#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/write.hpp>
#include <cstdio>
#include <utility>
#include <vector>

#include "httpd/reply.h"

namespace httpd {
namespace {

using boost::system::error_code;

constexpr size_t kChunk = 256 * 1024;       // bytes of a file in memory, a connection
constexpr size_t kHeaderLimit = 16 * 1024;  // bytes of a request's header

auto into(error_code& ec) { return asio::redirect_error(asio::use_awaitable, ec); }

// What to say to a request that could not be parsed; nothing when the peer just left.
http::status status_of(const error_code& ec) {
  if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
    return http::status::request_header_fields_too_large;
  }
  if (ec == http::error::bad_version) return http::status::http_version_not_supported;
  return http::status::bad_request;
}

bool peer_left(const error_code& ec) {
  return ec == http::error::end_of_stream || ec == http::error::partial_message ||
         ec.category() != http::make_error_code(http::error::bad_method).category();
}

}  // namespace

Server::Server(asio::io_context& io, const asio::ip::tcp::endpoint& at, const Site& site,
               const ServerOptions& options)
    : io_(io), acceptor_(io, at), timer_(io), site_(site), options_(options) {}

void Server::start(std::function<void()> on_gone) {
  on_gone_ = std::move(on_gone);
  asio::co_spawn(io_, accept_all(), asio::detached);
  asio::co_spawn(io_, watch_idle(), asio::detached);
}

void Server::stop() {
  stopping_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  timer_.cancel();
  for (Session& session : sessions_) session.socket.close(ignored);
}

asio::awaitable<void> Server::accept_all() {
  while (!stopping_) {
    error_code ec;
    postern::stream_socket peer = co_await acceptor_.async_accept(into(ec));
    if (stopping_) break;
    if (!ec) {
      const auto session = sessions_.emplace(sessions_.end(), std::move(peer));
      asio::co_spawn(io_, serve(session), asio::detached);
    } else if (ec == boost::system::errc::connection_aborted && *postern_last_error() != 0) {
      std::fprintf(stderr, "httpd: posternd is gone: %s\n", postern_last_error());
      stop();
      on_gone_();
    } else if (ec != boost::system::errc::connection_aborted) {
      // Out of sockets: wait until some are closed rather than spin.
      asio::steady_timer pause(io_, std::chrono::milliseconds(100));
      co_await pause.async_wait(into(ec));
    }
  }
}

asio::awaitable<void> Server::watch_idle() {
  while (!stopping_) {
    error_code ec;
    timer_.expires_after(std::chrono::seconds(1));
    co_await timer_.async_wait(into(ec));
    const auto limit = Clock::now() - options_.idle_limit;
    for (Session& session : sessions_) {
      if (session.last_progress < limit) session.socket.close(ec);
    }
  }
}

asio::awaitable<void> Server::serve(std::list<Session>::iterator session) {
  try {
    co_await serve_requests(*session);
  } catch (const std::exception& error) {  // out of memory, at most
    std::fprintf(stderr, "httpd: connection given up: %s\n", error.what());
  }
  sessions_.erase(session);
}

asio::awaitable<void> Server::serve_requests(Session& session) {
  boost::beast::flat_buffer buffer(kHeaderLimit);
  for (bool open = true; open && !stopping_;) {
    http::request_parser<http::empty_body> parser;
    parser.header_limit(kHeaderLimit);
    error_code ec;
    co_await http::async_read(session.socket, buffer, parser, into(ec));
    session.last_progress = Clock::now();
    Reply reply;
    if (!ec) {
      reply = make_reply(site_, parser.get(), time(nullptr));
    } else if (peer_left(ec)) {
      break;
    } else {
      reply = make_error(status_of(ec), 11, false, true, time(nullptr));
    }
    if (options_.log_requests && !ec) {
      std::printf("%s %s %u %llu\n", std::string(parser.get().method_string()).c_str(),
                  std::string(parser.get().target()).c_str(), reply.header.result_int(),
                  static_cast<unsigned long long>(reply.length));
    }
    open = co_await send(session, reply) && reply.header.keep_alive();
  }
  error_code ignored;
  session.socket.shutdown(asio::socket_base::shutdown_send, ignored);
}

asio::awaitable<bool> Server::send(Session& session, Reply& reply) {
  error_code ec;
  http::response_serializer<http::empty_body> serializer(reply.header);
  co_await http::async_write_header(session.socket, serializer, into(ec));
  if (!ec && !reply.text.empty()) {
    co_await asio::async_write(session.socket, asio::buffer(reply.text), into(ec));
  }
  session.last_progress = Clock::now();
  if (ec) co_return false;
  co_return reply.length == 0 || co_await send_file(session, reply);
}

// A file that became shorter meanwhile ends the connection: the peer sees that bytes are missing.
asio::awaitable<bool> Server::send_file(Session& session, const Reply& reply) {
  std::vector<char> chunk(std::min<uint64_t>(kChunk, reply.length));
  uint64_t at = reply.first;
  for (uint64_t left = reply.length; left > 0;) {
    const ssize_t n = pread(reply.file.get(), chunk.data(), std::min<uint64_t>(chunk.size(), left),
                            static_cast<off_t>(at));
    if (n <= 0) co_return false;
    error_code ec;
    for (size_t sent = 0; sent < static_cast<size_t>(n);) {
      sent += co_await session.socket.async_write_some(
          asio::buffer(&chunk[sent], static_cast<size_t>(n) - sent), into(ec));
      if (ec) co_return false;
      session.last_progress = Clock::now();
    }
    at += static_cast<uint64_t>(n);
    left -= static_cast<uint64_t>(n);
  }
  co_return true;
}

}  // namespace httpd
