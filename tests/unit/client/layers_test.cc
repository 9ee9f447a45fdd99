// Layers upon postern.hpp: WebSocket, and connecting to what a resolver found.
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>

#include "client/postern.hpp"
#include "fixture.h"

namespace postern::test {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using asio::use_awaitable;
using asio::ip::tcp;

const tcp::endpoint kServer(asio::ip::make_address("10.0.0.2"), 8080);
const tcp::endpoint kNobody(asio::ip::make_address("10.0.0.2"), 8081);
const tcp::endpoint kAny(tcp::v4(), 8080);

asio::awaitable<void> echo_messages(acceptor& from) {
  websocket::stream<stream_socket> ws(co_await from.async_accept(use_awaitable));
  co_await ws.async_accept(use_awaitable);
  for (;;) {
    beast::flat_buffer buffer;
    error_code ec;
    co_await ws.async_read(buffer, asio::redirect_error(use_awaitable, ec));
    if (ec == websocket::error::closed) co_return;
    EXPECT_FALSE(ec) << ec.message();
    ws.text(ws.got_text());
    co_await ws.async_write(buffer.data(), use_awaitable);
  }
}

TEST_F(ClientTest, WebSocket) {
  asio::io_context io;
  acceptor server(io, kAny);
  asio::co_spawn(io, echo_messages(server), asio::detached);
  size_t messages = 0;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        websocket::stream<stream_socket> ws(io);
        co_await ws.next_layer().async_connect(kServer, use_awaitable);
        co_await ws.async_handshake("10.0.0.2", "/", use_awaitable);
        ws.binary(true);
        for (const size_t size : {size_t{0}, size_t{1}, size_t{125}, size_t{70000}}) {
          const std::vector<char> out = pattern_bytes(size, size);
          co_await ws.async_write(asio::buffer(out), use_awaitable);
          beast::flat_buffer in;
          co_await ws.async_read(in, use_awaitable);
          const auto* data = static_cast<const char*>(in.data().data());
          EXPECT_EQ(std::vector<char>(data, data + in.size()), out);
          ++messages;
        }
        co_await ws.async_close(websocket::close_code::normal, use_awaitable);
        EXPECT_FALSE(ws.next_layer().is_open()) << "torn down";
      },
      asio::detached);
  io.run();
  EXPECT_EQ(messages, 4u);
  server.close();
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0; }));
}

TEST_F(ClientTest, WebSocketSynchronous) {
  asio::io_context io;
  acceptor server(io, kAny);
  std::thread peer([&] {
    websocket::stream<stream_socket> ws(server.accept());
    ws.accept();
    beast::flat_buffer buffer;
    ws.read(buffer);
    ws.write(buffer.data());
    error_code ec;
    buffer.clear();
    ws.read(buffer, ec);
    EXPECT_EQ(ec, websocket::error::closed);
  });
  websocket::stream<stream_socket> ws(io);
  ws.next_layer().connect(kServer);
  ws.handshake("10.0.0.2", "/");
  ws.write(asio::buffer("hello", 5));
  beast::flat_buffer in;
  ws.read(in);
  EXPECT_EQ(beast::buffers_to_string(in.data()), "hello");
  ws.close(websocket::close_code::normal);
  peer.join();
}

TEST_F(ClientTest, ConnectToTheFirstThatAnswers) {
  asio::io_context io;
  acceptor server(io, kAny);
  const std::vector<tcp::endpoint> range{kNobody, kServer, kNobody};
  stream_socket socket(io);
  EXPECT_EQ(connect(socket, range), kServer);
  EXPECT_EQ(socket.remote_endpoint(), kServer);
  stream_socket other(io);
  tcp::endpoint reached;
  error_code result = asio::error::fault;
  async_connect(other, range, [&](error_code ec, const tcp::endpoint& to) {
    result = ec;
    reached = to;
  });
  io.run();
  EXPECT_FALSE(result) << result.message();
  EXPECT_EQ(reached, kServer);
  EXPECT_EQ(other.remote_endpoint(), kServer);
}

TEST_F(ClientTest, ConnectToNobody) {
  asio::io_context io;
  stream_socket socket(io);
  error_code ec;
  EXPECT_EQ(connect(socket, std::vector<tcp::endpoint>{}, ec), tcp::endpoint());
  EXPECT_EQ(ec, asio::error::not_found);
  connect(socket, std::vector{kNobody, kNobody}, ec);
  EXPECT_EQ(ec, asio::error::connection_refused);
  int completed = 0;
  async_connect(socket, std::vector<tcp::endpoint>{}, [&](error_code e, const tcp::endpoint&) {
    EXPECT_EQ(e, asio::error::not_found);
    ++completed;
  });
  EXPECT_EQ(completed, 0) << "not within the call";
  io.run();
  io.restart();
  async_connect(socket, std::vector{kNobody}, [&](error_code e, const tcp::endpoint&) {
    EXPECT_EQ(e, asio::error::connection_refused);
    ++completed;
  });
  io.run();
  EXPECT_EQ(completed, 2);
}

TEST_F(ClientTest, ConnectToWhatAResolverFound) {
  asio::io_context io;
  acceptor server(io, kAny);
  tcp::resolver resolver(io);
  stream_socket socket(io);
  bool done = false;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        const auto found = co_await resolver.async_resolve("10.0.0.2", "8080", use_awaitable);
        EXPECT_EQ(co_await async_connect(socket, found, use_awaitable), kServer);
        done = true;
      },
      asio::detached);
  io.run();
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace postern::test
