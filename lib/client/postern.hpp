// Postern sockets for Boost.Asio (1.79 or later). Header-only, C++17, namespace postern; link with
// libpostern.
//
//   postern::attach();                              // once a process
//   asio::io_context io;
//   postern::acceptor acceptor(io, {asio::ip::tcp::v4(), 80});
//   postern::stream_socket peer = co_await acceptor.async_accept(asio::use_awaitable);
//   co_await beast::http::async_read(peer, buffer, request, asio::use_awaitable);
//
// stream_socket is an AsyncReadStream, AsyncWriteStream, SyncReadStream and SyncWriteStream: what
// is written for asio::ip::tcp::socket works over it: Boost.Beast with its WebSocket, asio::ssl.
// postern::connect() and async_connect() take what a resolver found. Completion tokens,
// associated executors, allocators and cancellation slots (all cancellation types) are honoured.
//
// THREADS: as Asio's own sockets: distinct objects are safe, a shared object is not, unless a
// strand guards it. An io_context may be run by several threads.
//
// No thread of its own: one service an execution context waits for the library's doorbell in the
// context's reactor. It is idle when no asynchronous operation is pending, and then run() returns
// as always. After activity it looks at the socket queue for spin_time() more before the thread may
// sleep.
#ifndef POSTERN_HPP
#define POSTERN_HPP

#include "postern/connect.hpp"
#include "postern/datagram.hpp"
#include "postern/service.hpp"
#include "postern/socket.hpp"
#include "postern/stream.hpp"

namespace postern {

using stream_socket = basic_stream_socket<>;
using acceptor = basic_acceptor<>;
using datagram_socket = basic_datagram_socket<>;

}  // namespace postern

#endif
