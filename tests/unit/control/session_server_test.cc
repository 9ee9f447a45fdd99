#include "control/session_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>

#include "control/instance.h"
#include "control/log.h"
#include "temporary_directory.h"

namespace postern {
namespace {

using namespace std::chrono_literals;

shm_attach_request attach_request() {
  shm_attach_request request{};
  request.type = SHM_REQ_ATTACH;
  request.magic = SHM_MAGIC;
  request.version_major = SHM_VERSION_MAJOR;
  request.version_minor = SHM_VERSION_MINOR;
  std::strcpy(request.name, "test");
  return request;
}

template <class T>
std::span<const std::byte> bytes(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// ---- messages ----

TEST(SessionProtocol, DecodesByTypeAndSize) {
  const shm_attach_request attach = attach_request();
  EXPECT_TRUE(std::holds_alternative<shm_attach_request>(decode_request(bytes(attach))));
  shm_bind_request bind{};
  for (const uint32_t type : {SHM_REQ_BIND, SHM_REQ_LISTEN, SHM_REQ_UNBIND}) {
    bind.type = type;
    EXPECT_TRUE(std::holds_alternative<shm_bind_request>(decode_request(bytes(bind))));
  }
  EXPECT_TRUE(
      std::holds_alternative<std::string>(decode_request(bytes(bind).first(sizeof bind - 1))));
  shm_group_request group{};
  group.type = SHM_REQ_GROUP;
  EXPECT_TRUE(std::holds_alternative<shm_group_request>(decode_request(bytes(group))));
  EXPECT_TRUE(
      std::holds_alternative<std::string>(decode_request(bytes(group).first(sizeof group - 1))));
  bind.type = 77;
  EXPECT_EQ(std::get<std::string>(decode_request(bytes(bind))), "request of unknown type 77");
}

TEST(SessionProtocol, EveryLengthOfEveryTypeIsDecodedOrRefused) {
  shm_bind_request request{};
  for (uint32_t type = 0; type < 9; ++type) {
    request.type = type;
    for (size_t length = 0; length <= sizeof request; ++length) {
      (void)decode_request(bytes(request).first(length));  // sanitizers watch
    }
  }
}

TEST(SessionProtocol, AttachMayGrowAndMustBeOurs) {
  std::array<std::byte, 100> longer{};
  shm_attach_request attach = attach_request();
  std::memcpy(longer.data(), &attach, sizeof attach);
  EXPECT_TRUE(std::holds_alternative<shm_attach_request>(decode_request(longer)))
      << "a later minor version appends";
  attach.magic = 1;
  EXPECT_TRUE(std::holds_alternative<std::string>(decode_request(bytes(attach))));
}

TEST(SessionProtocol, RefusalNamesBothVersions) {
  shm_attach_request attach = attach_request();
  EXPECT_EQ(refuse_version(attach), std::nullopt);
  attach.version_minor = 9;
  EXPECT_EQ(refuse_version(attach), std::nullopt) << "minors agree on the lower";
  attach.version_major = 7;
  EXPECT_EQ(refuse_version(attach),
            "the application speaks shared-memory version 7.9, posternd speaks " +
                std::to_string(SHM_VERSION_MAJOR) + '.' + std::to_string(SHM_VERSION_MINOR) +
                "; install matching versions");
}

TEST(SessionProtocol, ProgramNameIsPrintable) {
  shm_attach_request attach = attach_request();
  EXPECT_EQ(program_name(attach), "test");
  std::memset(attach.name, 'x', sizeof attach.name);  // no terminator
  EXPECT_EQ(program_name(attach), std::string(sizeof attach.name, 'x'));
  std::strcpy(attach.name, "a\033[2Jb c");
  EXPECT_EQ(program_name(attach), "a?[2Jb?c");
  attach.name[0] = 0;
  EXPECT_EQ(program_name(attach), "?");
}

TEST(SessionProtocol, LongMessagesAreCut) {
  const shm_attach_reply reply = attach_refusal(EACCES, std::string(500, 'y'));
  EXPECT_EQ(strnlen(reply.message, sizeof reply.message), sizeof reply.message - 1);
}

// ---- sessions ----

class Handler final : public SessionHandler {
 public:
  void on_attach(const std::shared_ptr<Session>& session, const shm_attach_request&) override {
    ++attached;
    last = session;
    if (refuse) return session->reply(attach_refusal(EACCES, "no"), {});
    session->reply(attach_refusal(0, ""), fds);
  }
  void on_bind(const std::shared_ptr<Session>& session, const shm_bind_request& request) override {
    ++bound;
    if (keep_waiting) return;
    shm_bind_reply reply = bind_refusal(request.type, 0, "");
    reply.binding = 42;
    session->reply(reply);
  }
  void on_group(const std::shared_ptr<Session>& session, const shm_group_request&) override {
    shm_bind_reply reply = bind_refusal(SHM_REQ_GROUP, 0, "");
    reply.port = 7;
    session->reply(reply);
  }
  void on_closed(const std::shared_ptr<Session>&) override { ++closed; }

  int attached = 0, bound = 0, closed = 0;
  bool refuse = false, keep_waiting = false;
  std::vector<int> fds;
  std::shared_ptr<Session> last;
};

class SessionServerTest : public testing::Test {
 protected:
  SessionServerTest() {
    spdlog::set_level(spdlog::level::off);
    make_server({});
  }
  void make_server(SessionLimits limits) {
    server_ = std::make_unique<SessionServer>(io_, listen_local(path_, SOCK_SEQPACKET, 0666, 64),
                                              handler_, limits);
  }
  int connect() {
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  template <class T>
  static void send_to(int fd, const T& message) {
    ASSERT_EQ(send(fd, &message, sizeof message, MSG_NOSIGNAL), ssize_t{sizeof message});
  }
  // Runs the loop until it is so; false after a second.
  bool until(const std::function<bool()>& so) {
    const auto deadline = std::chrono::steady_clock::now() + 1s;
    while (!so()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      io_.run_one_for(10ms);
    }
    return true;
  }
  // Bytes of the next message; 0: end of file.
  ssize_t receive(int fd, void* out, size_t size) {
    ssize_t got = -1;
    EXPECT_TRUE(until([&] {
      got = recv(fd, out, size, MSG_DONTWAIT);
      return got >= 0 || errno != EAGAIN;
    }));
    return got;
  }
  shm_attach_reply attach(int fd) {
    send_to(fd, attach_request());
    shm_attach_reply reply{};
    EXPECT_EQ(receive(fd, &reply, sizeof reply), ssize_t{sizeof reply});
    return reply;
  }
  void expect_end(int fd) {
    char byte = 0;
    EXPECT_LE(receive(fd, &byte, 1), 0);
  }

  TemporaryDirectory dir_;
  std::filesystem::path path_ = dir_ / "postern.sock";
  boost::asio::io_context io_{1};
  Handler handler_;
  std::unique_ptr<SessionServer> server_;
};

TEST_F(SessionServerTest, AttachBindAndDeath) {
  const int fd = connect();
  EXPECT_EQ(attach(fd).error, 0u);
  EXPECT_EQ(handler_.last->peer().pid, getpid());
  EXPECT_EQ(handler_.last->peer().uid, geteuid());
  shm_bind_request bind{};
  bind.type = SHM_REQ_BIND;
  send_to(fd, bind);
  shm_bind_reply reply{};
  ASSERT_EQ(receive(fd, &reply, sizeof reply), ssize_t{sizeof reply});
  EXPECT_EQ(reply.binding, 42u);
  shm_group_request group{};
  group.type = SHM_REQ_GROUP;
  send_to(fd, group);
  ASSERT_EQ(receive(fd, &reply, sizeof reply), ssize_t{sizeof reply});
  EXPECT_EQ(reply.port, 7u);
  EXPECT_EQ(handler_.closed, 0);
  close(fd);
  EXPECT_TRUE(until([&] { return handler_.closed == 1; }));
  EXPECT_EQ(server_->size(), 0u);
}

TEST_F(SessionServerTest, DescriptorsRideAlong) {
  handler_.fds = {eventfd(0, 0), eventfd(0, 0), eventfd(0, 0)};
  const int fd = connect();
  send_to(fd, attach_request());
  shm_attach_reply reply{};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  iovec part{&reply, sizeof reply};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ASSERT_TRUE(until([&] { return recvmsg(fd, &header, MSG_DONTWAIT) > 0; }));
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  ASSERT_NE(rights, nullptr);
  ASSERT_EQ(rights->cmsg_len, CMSG_LEN(3 * sizeof(int)));
  int got[3];
  std::memcpy(got, CMSG_DATA(rights), sizeof got);
  const uint64_t one = 1;
  ASSERT_EQ(write(got[1], &one, sizeof one), ssize_t{sizeof one});
  uint64_t seen = 0;
  EXPECT_EQ(read(handler_.fds[1], &seen, sizeof seen), ssize_t{sizeof seen}) << "the same eventfd";
  for (const int one_fd : got) close(one_fd);
  for (const int one_fd : handler_.fds) close(one_fd);
  close(fd);
}

TEST_F(SessionServerTest, WrongVersionIsAnsweredWithBoth) {
  const int fd = connect();
  shm_attach_request request = attach_request();
  request.version_major = 9;
  request.version_minor = 4;
  send_to(fd, request);
  shm_attach_reply reply{};
  ASSERT_EQ(receive(fd, &reply, sizeof reply), ssize_t{sizeof reply});
  EXPECT_EQ(reply.error, uint32_t{EPROTO});
  EXPECT_EQ(reply.version_major, SHM_VERSION_MAJOR);
  EXPECT_NE(std::strstr(reply.message, "version 9.4"), nullptr) << reply.message;
  expect_end(fd);
  EXPECT_EQ(handler_.attached, 0);
  EXPECT_EQ(handler_.closed, 0);
  close(fd);
}

TEST_F(SessionServerTest, RefusalEndsTheSessionWithoutOnClosed) {
  handler_.refuse = true;
  const int fd = connect();
  const shm_attach_reply reply = attach(fd);
  EXPECT_EQ(reply.error, uint32_t{EACCES});
  EXPECT_STREQ(reply.message, "no");
  expect_end(fd);
  EXPECT_EQ(handler_.closed, 0);
  close(fd);
}

TEST_F(SessionServerTest, BrokenMessagesEndTheSession) {
  const shm_bind_request bind{SHM_REQ_BIND, {}, {}, {}, {}, {}, {}, {}, {}};
  const int early = connect();
  send_to(early, bind);  // before ATTACH
  expect_end(early);
  const int twice = connect();
  attach(twice);
  send_to(twice, attach_request());
  expect_end(twice);
  EXPECT_EQ(handler_.closed, 1) << "it was attached";
  const int garbage = connect();
  send_to(garbage, uint64_t{0x4141414141414141});
  expect_end(garbage);
  const int empty = connect();
  ASSERT_EQ(send(empty, "", 0, 0), 0);
  expect_end(empty);
  EXPECT_EQ(handler_.bound, 0);
  EXPECT_EQ(server_->size(), 0u);
  for (const int fd : {early, twice, garbage, empty}) close(fd);
}

TEST_F(SessionServerTest, OneRequestAtATime) {
  const int fd = connect();
  attach(fd);
  handler_.keep_waiting = true;
  shm_bind_request bind{};
  bind.type = SHM_REQ_BIND;
  for (int i = 0; i < 5; ++i) send_to(fd, bind);
  EXPECT_TRUE(until([&] { return handler_.bound == 1; }));
  io_.run_for(20ms);
  EXPECT_EQ(handler_.bound, 1) << "the next waits for the reply";
  handler_.last->reply(bind_refusal(SHM_REQ_BIND, 0, ""));
  EXPECT_TRUE(until([&] { return handler_.bound == 2; }));
  close(fd);
}

TEST_F(SessionServerTest, LimitsSessions) {
  server_->stop();
  make_server({.sessions = 100, .per_user = 3});
  std::vector<int> fds;
  for (int i = 0; i < 3; ++i) {
    fds.push_back(connect());
    EXPECT_EQ(attach(fds.back()).error, 0u);
  }
  const int fd = connect();
  shm_attach_reply reply{};
  ASSERT_EQ(receive(fd, &reply, sizeof reply), ssize_t{sizeof reply});
  EXPECT_EQ(reply.error, uint32_t{EMFILE});
  close(fd);
  close(fds[0]);
  EXPECT_TRUE(until([&] { return server_->size() == 2; }));
  fds[0] = connect();
  EXPECT_EQ(attach(fds[0]).error, 0u) << "room again";
  for (const int one : fds) close(one);
}

TEST_F(SessionServerTest, DescriptorsOfAClientAreNotKept) {
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const int fd = connect();
  attach(fd);
  const auto before = open_files();
  shm_bind_request bind{};
  bind.type = SHM_REQ_BIND;
  iovec part{&bind, sizeof bind};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  ASSERT_GT(sendmsg(fd, &header, 0), 0);
  shm_bind_reply reply{};
  ASSERT_GT(receive(fd, &reply, sizeof reply), 0);
  EXPECT_EQ(open_files(), before);
  close(fd);
}

TEST_F(SessionServerTest, StopClosesAllAndCallsNobody) {
  const int fd = connect();
  attach(fd);
  server_->stop();
  expect_end(fd);
  EXPECT_EQ(handler_.closed, 0);
  close(fd);
}

}  // namespace
}  // namespace postern
