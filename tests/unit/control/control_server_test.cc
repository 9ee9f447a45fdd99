#include "control/control_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <thread>

#include "control/control_client.h"
#include "control/instance.h"
#include "temporary_directory.h"

namespace postern {
namespace {

using namespace std::chrono_literals;

class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest()
      : server_(io_, listen_local(path_, SOCK_STREAM, 0660, 16),
                [this](const Credentials& peer) { return allow_ && peer.uid == geteuid(); }) {
    server_.handle("echo", [](const boost::json::object& request, const ControlReply& reply) {
      reply.ok(request.at("text"));
    });
    server_.handle("later", [this](const boost::json::object&, const ControlReply& reply) {
      boost::asio::post(io_, [reply] { reply.ok("done"); });
    });
    server_.handle("throw", [](const boost::json::object&, const ControlReply&) {
      throw std::runtime_error("it broke");
    });
    server_.handle("large", [](const boost::json::object&, const ControlReply& reply) {
      reply.ok(boost::json::string(4 << 20, 'x'));
    });
    thread_ = std::thread([this] { io_.run(); });
  }
  ~ControlServerTest() override {
    boost::asio::post(io_, [this] { server_.stop(); });
    io_.stop();
    thread_.join();
  }

  std::string error_of(const boost::json::object& request) {
    try {
      ControlClient client(path_);
      return boost::json::serialize(client.call(request));
    } catch (const ControlError& error) {
      return error.what();
    }
  }

  // A bare connection, to misbehave on.
  int raw() {
    boost::asio::io_context io;
    boost::asio::local::stream_protocol::socket socket(io);
    socket.connect({path_.string()});
    return socket.release();
  }
  // What comes until the other side closes or a line is complete.
  static std::string read_line(int fd) {
    std::string out;
    char c = 0;
    while (read(fd, &c, 1) == 1 && c != '\n') out += c;
    return out;
  }

  TemporaryDirectory dir_;
  std::filesystem::path path_ = dir_ / "control.sock";
  boost::asio::io_context io_{1};
  std::atomic<bool> allow_ = true;
  ControlServer server_;
  std::thread thread_;
};

TEST_F(ControlServerTest, AnswersSeveralRequestsOnOneConnection) {
  ControlClient client(path_);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(client.call({{"verb", "echo"}, {"text", i}}), i);
  }
  EXPECT_EQ(client.call({{"verb", "later"}}), "done");
}

TEST_F(ControlServerTest, LargeAnswer) {
  ControlClient client(path_);
  EXPECT_EQ(client.call({{"verb", "large"}}).as_string().size(), size_t{4} << 20);
}

TEST_F(ControlServerTest, ErrorsAreAnswers) {
  EXPECT_EQ(error_of({{"verb", "nonsense"}}), "this posternd does not know the verb \"nonsense\"");
  EXPECT_EQ(error_of({{"noverb", 1}}), "the request has no \"verb\"");
  EXPECT_EQ(error_of({{"verb", 1}}), "the request has no \"verb\"");
  EXPECT_EQ(error_of({{"verb", "throw"}}), "it broke");
}

TEST_F(ControlServerTest, RefusesPeersThatAreNotAllowed) {
  allow_ = false;
  EXPECT_EQ(error_of({{"verb", "later"}}),
            "permission denied: be root or in the group of control.group");
}

TEST_F(ControlServerTest, MalformedRequestIsAnsweredAndTheConnectionGoesOn) {
  const int fd = raw();
  const std::string text = "{not json\n[1]\n{\"verb\": \"later\"}\n";
  ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(read_line(fd), R"({"ok":false,"error":"the request is not a JSON object"})");
  EXPECT_EQ(read_line(fd), R"({"ok":false,"error":"the request is not a JSON object"})");
  EXPECT_EQ(read_line(fd), R"({"ok":true,"result":"done"})");
  close(fd);
}

TEST_F(ControlServerTest, TooLongARequestEndsTheConnection) {
  const int fd = raw();
  const std::string text(kMaxControlRequest + 1, 'x');
  ASSERT_GT(write(fd, text.data(), text.size()), 0);
  EXPECT_EQ(read_line(fd), R"({"ok":false,"error":"the request is longer than 64 KiB"})");
  EXPECT_EQ(read_line(fd), "") << "closed";
  close(fd);
}

TEST_F(ControlServerTest, StalledAndVanishedClientsHarmNobody) {
  std::vector<int> fds;
  for (int i = 0; i < 20; ++i) {
    const int fd = raw();
    const std::string half = i % 2 == 0 ? "{\"verb\": \"ech" : "{\"verb\": \"large\"}\n";
    ASSERT_GT(write(fd, half.data(), half.size()), 0);
    fds.push_back(fd);  // never reads
  }
  for (size_t i = 0; i < fds.size(); i += 3) {
    close(fds[i]);
    fds[i] = -1;
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(error_of({{"verb", "later"}}), "\"done\"");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  for (const int fd : fds) {
    if (fd >= 0) close(fd);
  }
}

TEST(ControlClientTest, SaysThatTheDaemonIsNotRunning) {
  const TemporaryDirectory dir;
  try {
    ControlClient client(dir / "control.sock");
    FAIL() << "connected to nobody";
  } catch (const ControlError& error) {
    EXPECT_NE(std::string(error.what()).find("posternd is not running"), std::string::npos);
  }
}

}  // namespace
}  // namespace postern
