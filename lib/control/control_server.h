// The operator's door: a local stream socket on which each line is a JSON request and is answered
// by one line of JSON. Control thread only: everything runs in the io_context.
//
//   {"verb": "ss"}            -> {"ok": true, "result": ...}
//   {"verb": "nonsense"}      -> {"ok": false, "error": "..."}
//
// A client has one request under way. One that stalls, sends too much or goes away loses its
// connection and harms nobody.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "control/access.h"

namespace postern {

// Call once, now or later, from the control thread. Outlives the client if need be.
class ControlReply {
 public:
  using Sink = std::function<void(boost::json::object)>;
  explicit ControlReply(Sink sink) : sink_(std::move(sink)) {}
  void ok(boost::json::value result) const { sink_({{"ok", true}, {"result", std::move(result)}}); }
  void error(std::string_view what) const { sink_({{"ok", false}, {"error", what}}); }

 private:
  Sink sink_;
};

using ControlHandler =
    std::function<void(const boost::json::object& request, const ControlReply& reply)>;

inline constexpr size_t kMaxControlRequest = 64 * 1024;  // bytes of one line

class ControlServer {
 public:
  // Takes over listen_fd: a listening SOCK_STREAM socket. `allowed` judges each peer.
  ControlServer(boost::asio::io_context& io, int listen_fd,
                std::function<bool(const Credentials&)> allowed);
  void handle(std::string verb, ControlHandler handler);
  // Stops accepting; connections end when their request under way does.
  void stop();
  [[nodiscard]] size_t size() const { return *connections_; }

 private:
  class Connection;
  void accept();
  void dispatch(std::string_view line, const ControlReply& reply) const;

  boost::asio::io_context& io_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  std::function<bool(const Credentials&)> allowed_;
  std::map<std::string, ControlHandler, std::less<>> handlers_;
  std::shared_ptr<size_t> connections_ = std::make_shared<size_t>(0);  // they may outlive us
};

}  // namespace postern
