// Accepts connections and serves each in a coroutine of its own, all in one thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>

#include "client/postern.hpp"
#include "httpd/site.h"

namespace httpd {

namespace asio = boost::asio;

struct ServerOptions {
  std::chrono::seconds idle_limit{30};  // without progress; a connection is then closed
  bool log_requests = false;
};

class Server {
 public:
  // Throws boost::system::system_error when the address cannot be bound. The site must outlive it.
  Server(asio::io_context& io, const asio::ip::tcp::endpoint& at, const Site& site,
         const ServerOptions& options);

  // `on_gone`: called once when the daemon is gone, after which stop() has been called.
  void start(std::function<void()> on_gone);
  // Stops accepting and closes all connections; then io.run() returns.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;

  struct Session {
    explicit Session(postern::stream_socket s)
        : socket(std::move(s)), last_progress(Clock::now()) {}
    postern::stream_socket socket;
    Clock::time_point last_progress;
  };

  asio::awaitable<void> accept_all();
  asio::awaitable<void> watch_idle();
  asio::awaitable<void> serve(std::list<Session>::iterator session);
  asio::awaitable<void> serve_requests(Session& session);
  asio::awaitable<bool> send(Session& session, struct Reply& reply);
  asio::awaitable<bool> send_file(Session& session, const Reply& reply);

  asio::io_context& io_;
  postern::acceptor acceptor_;
  asio::steady_timer timer_;
  const Site& site_;
  ServerOptions options_;
  std::list<Session> sessions_;
  std::function<void()> on_gone_;
  bool stopping_ = false;
};

}  // namespace httpd
