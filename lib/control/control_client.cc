#include "control/control_client.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <string>

namespace postern {
namespace {

using boost::system::error_code;

[[noreturn]] void fail_connect(const std::filesystem::path& path, const error_code& error) {
  const std::string name = path.string();
  if (error == boost::system::errc::permission_denied) {
    throw ControlError("no permission to use " + name +
                       "; run as root or as a member of the group that control.group names");
  }
  if (error == boost::system::errc::no_such_file_or_directory ||
      error == boost::system::errc::connection_refused) {
    throw ControlError("posternd is not running: nobody listens on " + name +
                       "; start it, or give its control socket with --socket PATH");
  }
  throw ControlError("cannot connect to " + name + ": " + error.message());
}

}  // namespace

struct ControlClient::Impl {
  boost::asio::io_context io;
  boost::asio::local::stream_protocol::socket socket{io};
  std::string input;
};

ControlClient::ControlClient(const std::filesystem::path& socket)
    : impl_(std::make_unique<Impl>()) {
  if (socket.native().size() > 107) throw ControlError("the socket path is longer than 107 bytes");
  error_code error;
  impl_->socket.connect({socket.string()}, error);
  if (error) fail_connect(socket, error);
}

ControlClient::~ControlClient() = default;

boost::json::value ControlClient::call(const boost::json::object& request) {
  error_code error;
  const std::string line = boost::json::serialize(request) + '\n';
  boost::asio::write(impl_->socket, boost::asio::buffer(line), error);
  size_t length = 0;
  if (!error || error == boost::asio::error::broken_pipe) {  // a refusal may have come before
    length = boost::asio::read_until(impl_->socket, boost::asio::dynamic_buffer(impl_->input), '\n',
                                     error);
  }
  if (error) throw ControlError("posternd closed the connection: " + error.message());
  const boost::json::value answer = boost::json::parse(impl_->input.substr(0, length), error);
  impl_->input.erase(0, length);
  const boost::json::object* object = answer.if_object();
  const boost::json::value* ok = object == nullptr ? nullptr : object->if_contains("ok");
  if (error || ok == nullptr || !ok->is_bool()) {
    throw ControlError("posternd gave an answer that is not understood; are the versions equal?");
  }
  if (!ok->as_bool()) throw ControlError(object->at("error").as_string().c_str());
  return object->at("result");
}

}  // namespace postern
