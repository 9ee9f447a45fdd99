#include <sys/resource.h>

#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "client/postern.hpp"
#include "fixture.h"

namespace postern::test {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::use_awaitable;
using namespace std::chrono_literals;

static_assert(beast::is_async_stream<stream_socket>::value);
static_assert(beast::is_sync_stream<stream_socket>::value);

const asio::ip::tcp::endpoint kServer(asio::ip::make_address("10.0.0.2"), 8080);
const asio::ip::tcp::endpoint kAny(asio::ip::tcp::v4(), 8080);

asio::awaitable<void> echo(stream_socket socket) {
  std::vector<char> buffer(8192);
  for (;;) {
    error_code ec;
    const size_t n = co_await socket.async_read_some(asio::buffer(buffer),
                                                     asio::redirect_error(use_awaitable, ec));
    if (ec) co_return;
    co_await asio::async_write(socket, asio::buffer(buffer, n), use_awaitable);
  }
}

asio::awaitable<void> serve(acceptor& from, int count) {
  for (int i = 0; i < count; ++i) {
    stream_socket peer = co_await from.async_accept(use_awaitable);
    asio::co_spawn(from.get_executor(), echo(std::move(peer)), asio::detached);
  }
}

asio::awaitable<void> talk(asio::any_io_executor executor, size_t bytes, int& finished) {
  stream_socket socket(executor);
  co_await socket.async_connect(kServer, use_awaitable);
  socket.set_option(asio::ip::tcp::no_delay(true));
  const std::vector<char> out = pattern_bytes(bytes, bytes);
  std::vector<char> in(bytes);
  for (int round = 0; round < 20; ++round) {
    co_await asio::async_write(socket, asio::buffer(out), use_awaitable);
    co_await asio::async_read(socket, asio::buffer(in), use_awaitable);
    EXPECT_EQ(in, out);
  }
  EXPECT_EQ(socket.remote_endpoint(), kServer);
  ++finished;
}

TEST_F(ClientTest, AsioEchoWithCoroutines) {
  asio::io_context io;
  acceptor server(io, kAny);
  asio::co_spawn(io, serve(server, 20), asio::detached);
  int finished = 0;
  for (size_t i = 0; i < 20; ++i) {
    asio::co_spawn(io, talk(io.get_executor(), 1 + i * 1500, finished), asio::detached);
  }
  io.run();  // returns: nothing is pending when all have hung up
  EXPECT_EQ(finished, 20);
  server.close();
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0 && tx_used() == 0; }));
}

TEST_F(ClientTest, AsioEchoWithSeveralThreads) {
  asio::io_context io;
  acceptor server(asio::make_strand(io), kAny);
  asio::co_spawn(server.get_executor(), serve(server, 8), asio::detached);
  std::array<int, 8> finished{};
  for (size_t i = 0; i < 8; ++i) {
    const auto strand = asio::make_strand(io);
    asio::co_spawn(strand, talk(strand, 3000, finished[i]), asio::detached);
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { io.run(); });
  for (auto& t : threads) t.join();
  for (const int f : finished) EXPECT_EQ(f, 1);
}

TEST_F(ClientTest, TwoContextsInTwoThreads) {
  asio::io_context servers, clients;
  acceptor server(servers, kAny);
  asio::co_spawn(servers, serve(server, 5), asio::detached);
  int finished = 0;
  for (int i = 0; i < 5; ++i) {
    asio::co_spawn(clients, talk(clients.get_executor(), 5000, finished), asio::detached);
  }
  std::thread other([&] { servers.run(); });
  clients.run();
  other.join();
  EXPECT_EQ(finished, 5);
}

TEST_F(ClientTest, BeastHttp) {
  asio::io_context io;
  acceptor server(io, kAny);
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        stream_socket peer = co_await server.async_accept(use_awaitable);
        beast::flat_buffer buffer;
        for (int i = 0; i < 3; ++i) {
          http::request<http::string_body> request;
          co_await http::async_read(peer, buffer, request, use_awaitable);
          http::response<http::string_body> response(http::status::ok, 11);
          response.body() = std::string(100000, 'p') + std::string(request.target());
          response.prepare_payload();
          co_await http::async_write(peer, response, use_awaitable);
        }
        peer.shutdown(asio::socket_base::shutdown_send);
      },
      asio::detached);
  bool done = false;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        stream_socket socket(io);
        co_await socket.async_connect(kServer, use_awaitable);
        beast::flat_buffer buffer;
        for (int i = 0; i < 3; ++i) {
          http::request<http::empty_body> request(http::verb::get, "/" + std::to_string(i), 11);
          co_await http::async_write(socket, request, use_awaitable);
          http::response<http::string_body> response;
          co_await http::async_read(socket, buffer, response, use_awaitable);
          EXPECT_EQ(response.body(), std::string(100000, 'p') + "/" + std::to_string(i));
        }
        char byte;
        error_code ec;
        co_await socket.async_read_some(asio::buffer(&byte, 1),
                                        asio::redirect_error(use_awaitable, ec));
        EXPECT_EQ(ec, asio::error::eof);
        done = true;
      },
      asio::detached);
  io.run();
  EXPECT_TRUE(done);
}

TEST_F(ClientTest, AsioConnectRefused) {
  asio::io_context io;
  stream_socket socket(io);
  error_code result;
  socket.async_connect({asio::ip::make_address("10.0.0.2"), 9999},
                       [&](const error_code& ec) { result = ec; });
  io.run();
  EXPECT_EQ(result, asio::error::connection_refused);
  socket.connect({asio::ip::make_address("10.0.0.2"), 9999}, result);
  EXPECT_EQ(result, asio::error::connection_refused);
}

TEST_F(ClientTest, AsioCancelAndClose) {
  asio::io_context io;
  acceptor server(io, kAny);
  stream_socket socket(io);
  socket.connect(kServer);
  stream_socket peer = server.accept();
  std::vector<error_code> results;
  char byte;
  const auto keep = [&](const error_code& ec, size_t) { results.push_back(ec); };
  socket.async_read_some(asio::buffer(&byte, 1), keep);
  server.async_accept([&](const error_code& ec, stream_socket) { results.push_back(ec); });
  asio::post(io, [&] {
    socket.cancel();
    server.close();
  });
  io.run();
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0], asio::error::operation_aborted);
  EXPECT_EQ(results[1], asio::error::operation_aborted);

  io.restart();  // the socket is as good as before
  socket.async_read_some(asio::buffer(&byte, 1), keep);
  peer.write_some(asio::buffer("y", 1));
  io.run();
  EXPECT_FALSE(results[2]);
  EXPECT_EQ(byte, 'y');
}

TEST_F(ClientTest, AsioCancellationSlots) {
  asio::io_context io;
  acceptor server(io, kAny);
  stream_socket socket(io);
  socket.connect(kServer);
  stream_socket peer = server.accept();
  bool timed_out = false;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        using namespace asio::experimental::awaitable_operators;
        char byte;
        asio::steady_timer timer(io, 20ms);
        for (int i = 0; i < 3; ++i) {
          timer.expires_after(20ms);
          const auto first =
              co_await (peer.async_read_some(asio::buffer(&byte, 1), use_awaitable) ||
                        timer.async_wait(use_awaitable));
          timed_out = first.index() == 1;
        }
        socket.write_some(asio::buffer("z", 1));
        timer.expires_after(5s);
        const auto second = co_await (peer.async_read_some(asio::buffer(&byte, 1), use_awaitable) ||
                                      timer.async_wait(use_awaitable));
        EXPECT_EQ(second.index(), 0U);
      },
      asio::detached);
  io.run();
  EXPECT_TRUE(timed_out);
}

TEST_F(ClientTest, AsioDatagrams) {
  asio::io_context io;
  datagram_socket server(io, {asio::ip::udp::v4(), 5353});
  datagram_socket client(io);
  client.open(asio::ip::udp::v4());
  const asio::ip::udp::endpoint to(asio::ip::make_address("10.0.0.2"), 5353);
  int rounds = 0;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        std::vector<char> buffer(2000);
        asio::ip::udp::endpoint from;
        for (int i = 0; i < 50; ++i) {
          const size_t n =
              co_await server.async_receive_from(asio::buffer(buffer), from, use_awaitable);
          co_await server.async_send_to(asio::buffer(buffer, n), from, use_awaitable);
        }
      },
      asio::detached);
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        std::vector<char> buffer(2000);
        asio::ip::udp::endpoint from;
        for (size_t i = 0; i < 50; ++i) {
          const std::vector<char> out = pattern_bytes(i, i * 20);
          co_await client.async_send_to(asio::buffer(out), to, use_awaitable);
          const size_t n =
              co_await client.async_receive_from(asio::buffer(buffer), from, use_awaitable);
          EXPECT_EQ(std::vector<char>(buffer.begin(), buffer.begin() + static_cast<long>(n)), out);
          ++rounds;
        }
      },
      asio::detached);
  io.run();
  EXPECT_EQ(rounds, 50);
}

TEST_F(ClientTest, AsioSynchronousCalls) {
  asio::io_context io;
  acceptor server(io, kAny);
  std::thread peer([&] {
    asio::io_context mine;
    stream_socket socket(mine);
    socket.connect(kServer);
    std::vector<char> out = pattern_bytes(0, 3 << 20);
    asio::write(socket, asio::buffer(out));
    socket.shutdown(asio::socket_base::shutdown_send);
    char byte;
    error_code ec;
    EXPECT_EQ(socket.read_some(asio::buffer(&byte, 1), ec), 0U);
    EXPECT_EQ(ec, asio::error::eof);
  });
  stream_socket socket = server.accept();
  std::vector<char> in(3 << 20);
  asio::read(socket, asio::buffer(in));
  EXPECT_EQ(in, pattern_bytes(0, 3 << 20));
  socket.non_blocking(true);
  error_code ec;
  while (ec != asio::error::eof) {
    ec = {};
    (void)socket.read_some(asio::buffer(in), ec);
    ASSERT_TRUE(ec == asio::error::eof || ec == asio::error::would_block) << ec.message();
  }
  socket.close();
  EXPECT_FALSE(socket.is_open());
  peer.join();
}

TEST_F(ClientTest, AsioIdlesWhenNothingHappens) {
  asio::io_context io;
  acceptor server(io, kAny);
  server.async_accept([](const error_code&, stream_socket) {});
  const auto cpu = [] {
    rusage u{};
    getrusage(RUSAGE_THREAD, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000L + u.ru_utime.tv_usec +
           u.ru_stime.tv_usec;
  };
  io.run_for(20ms);
  const long before = cpu();
  io.run_for(400ms);
  EXPECT_LT(cpu() - before, 20000);  // microseconds
}

TEST_F(ClientTest, AsioContextMayEndWithOperationsPending) {
  auto alive = std::make_shared<int>(0);
  {
    asio::io_context io;
    acceptor server(io, kAny);
    auto socket = std::make_shared<stream_socket>(io);
    socket->connect(kServer);
    auto byte = std::make_shared<char>();
    socket->async_read_some(asio::buffer(byte.get(), 1),
                            [socket, byte, alive](const error_code&, size_t) {});
    server.async_accept([alive](const error_code&, stream_socket) {});
    server.async_accept([alive](const error_code&, stream_socket) {});
    socket.reset();
    io.run_for(10ms);
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(ClientTest, AsioLearnsOfTheDaemonsDeath) {
  asio::io_context io;
  acceptor server(io, kAny);
  stream_socket socket(io);
  socket.connect(kServer);
  error_code reading, accepting;
  char byte;
  stream_socket peer = server.accept();
  socket.async_read_some(asio::buffer(&byte, 1),
                         [&](const error_code& ec, size_t) { reading = ec; });
  server.async_accept([&](const error_code& ec, stream_socket) { accepting = ec; });
  std::thread killer([&] {
    std::this_thread::sleep_for(30ms);
    daemon_->die();
  });
  io.run();
  killer.join();
  EXPECT_EQ(reading, asio::error::connection_aborted);
  EXPECT_EQ(accepting, asio::error::connection_aborted);
}

TEST(AsioAttach, FailsWithTheDaemonsWords) {
  MiniOptions o;
  o.attach_error = EACCES;
  o.attach_message = "not you";
  MiniDaemon daemon(o);
  try {
    attach(daemon.path().c_str());
    FAIL();
  } catch (const system_error& e) {
    EXPECT_EQ(e.code().value(), EACCES);
    EXPECT_NE(std::string(e.what()).find("not you"), std::string::npos);
  }
}

}  // namespace
}  // namespace postern::test
