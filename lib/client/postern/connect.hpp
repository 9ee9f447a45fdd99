// Part of postern.hpp: connecting to the first of several endpoints, and what
// Boost.Beast's WebSocket wants of a socket.
//
//   asio::ip::tcp::resolver resolver(io);
//   const auto found = co_await resolver.async_resolve("example.org", "80", asio::use_awaitable);
//   postern::stream_socket socket(io);
//   co_await postern::async_connect(socket, found, asio::use_awaitable);
//
// Names are resolved by Asio's own resolver, that is by libc and over the kernel's sockets.
#ifndef POSTERN_CONNECT_HPP
#define POSTERN_CONNECT_HPP

#include <boost/asio/compose.hpp>
#include <boost/beast/core/role.hpp>
#include <vector>

#include "stream.hpp"

namespace postern {
namespace detail {

// One endpoint after the other, each with a socket of its own.
template <class Executor>
struct connect_each {
  basic_stream_socket<Executor>& socket;
  std::vector<asio::ip::tcp::endpoint> endpoints;
  size_t next = 0;

  template <class Self>
  void operator()(Self& self, error_code ec = asio::error::not_found) {
    if (next > 0 && !ec) return self.complete(ec, endpoints[next - 1]);
    const bool cancelled = ec == asio::error::operation_aborted;
    if (cancelled || next == endpoints.size()) {
      // At once only if there was nothing to try: not from within the initiating function.
      if (next > 0) return self.complete(ec, {});
      next = 1;
      endpoints.resize(1);
      auto executor = socket.get_executor();
      return asio::post(executor, [self = std::move(self), ec]() mutable {
        self.complete(ec, asio::ip::tcp::endpoint());
      });
    }
    error_code ignored;
    socket.close(ignored);
    const asio::ip::tcp::endpoint to = endpoints[next++];
    socket.async_connect(to, std::move(self));
  }
};

template <class Range>
std::vector<asio::ip::tcp::endpoint> endpoints_of(const Range& range) {
  std::vector<asio::ip::tcp::endpoint> out;
  for (const auto& entry : range) out.push_back(asio::ip::tcp::endpoint(entry));
  return out;
}

template <class T>
using if_range = decltype(std::declval<const T&>().begin(), std::declval<const T&>().end());

}  // namespace detail

// Connects to the first endpoint of the range (the results of a resolver, or endpoints) that
// answers, and returns it. Whatever the socket was before is closed. not_found: an empty range;
// otherwise the error of the last attempt.
template <class Executor, class Range, class = detail::if_range<Range>>
asio::ip::tcp::endpoint connect(basic_stream_socket<Executor>& socket, const Range& range,
                                error_code& ec) {
  ec = asio::error::not_found;
  for (const asio::ip::tcp::endpoint& endpoint : detail::endpoints_of(range)) {
    error_code ignored;
    socket.close(ignored);
    socket.connect(endpoint, ec);
    if (!ec) return endpoint;
  }
  return {};
}
template <class Executor, class Range, class = detail::if_range<Range>>
asio::ip::tcp::endpoint connect(basic_stream_socket<Executor>& socket, const Range& range) {
  error_code ec;
  const auto endpoint = connect(socket, range, ec);
  detail::throw_if(ec, "connect");
  return endpoint;
}
// void(error_code, tcp::endpoint). The socket must stay until completion.
template <class Executor, class Range, class Token = asio::default_completion_token_t<Executor>,
          class = detail::if_range<Range>>
auto async_connect(basic_stream_socket<Executor>& socket, const Range& range, Token&& token = {}) {
  return asio::async_compose<Token, void(error_code, asio::ip::tcp::endpoint)>(
      detail::connect_each<Executor>{socket, detail::endpoints_of(range)}, token, socket);
}

// How boost::beast::websocket::stream ends a connection (beast/websocket/teardown.hpp), found by
// argument-dependent lookup: no more is sent, what still comes is read until the end.
template <class Executor>
void beast_close_socket(basic_stream_socket<Executor>& socket) {
  error_code ignored;
  socket.close(ignored);
}

template <class Executor>
void teardown(boost::beast::role_type, basic_stream_socket<Executor>& socket, error_code& ec) {
  socket.shutdown(asio::socket_base::shutdown_send, ec);
  char bytes[2048];
  while (!ec) socket.read_some(asio::buffer(bytes), ec);
  if (ec == asio::error::eof) ec = {};
  error_code ignored;
  socket.close(ignored);
}

namespace detail {

template <class Executor>
struct teardown_rest {
  basic_stream_socket<Executor>& socket;
  std::shared_ptr<std::array<char, 2048>> bytes = std::make_shared<std::array<char, 2048>>();
  bool begun = false;

  template <class Self>
  void operator()(Self& self, error_code ec = {}, size_t = 0) {
    if (!begun) {
      begun = true;
      error_code ignored;  // the peer may be gone already: reading tells
      socket.shutdown(asio::socket_base::shutdown_send, ignored);
    }
    if (!ec) return socket.async_read_some(asio::buffer(*bytes), std::move(self));
    if (ec == asio::error::eof) ec = {};
    error_code ignored;
    socket.close(ignored);
    self.complete(ec);
  }
};

}  // namespace detail

template <class Executor, class Handler>
void async_teardown(boost::beast::role_type, basic_stream_socket<Executor>& socket,
                    Handler&& handler) {
  asio::async_compose<Handler, void(error_code)>(detail::teardown_rest<Executor>{socket}, handler,
                                                 socket);
}

}  // namespace postern

#endif
