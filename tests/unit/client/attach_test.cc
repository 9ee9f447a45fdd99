#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

namespace postern::test {
namespace {

TEST(Attach, CallsBeforeItFail) {
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(postern_detach(), -1);
  EXPECT_EQ(errno, ENOTCONN);
  char byte;
  EXPECT_EQ(postern_recv(0, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(postern_queue_create(), nullptr);
}

TEST(Attach, NoDaemon) {
  EXPECT_EQ(postern_attach("/nonexistent/postern.sock"), -1);
  EXPECT_EQ(errno, ENOENT);
  const std::string longest(200, 'x');
  EXPECT_EQ(postern_attach(longest.c_str()), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
}

TEST(Attach, RefusalCarriesTheDaemonsWords) {
  MiniOptions o;
  o.attach_error = EACCES;
  o.attach_message = "user nobody is not in access:";
  MiniDaemon daemon(o);
  EXPECT_EQ(postern_attach(daemon.path().c_str()), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_STREQ(postern_last_error(), "user nobody is not in access:");
}

TEST(Attach, VersionRefusalNamesBothVersions) {
  MiniOptions o;
  o.attach_error = EPROTO;
  MiniDaemon daemon(o);
  EXPECT_EQ(postern_attach(daemon.path().c_str()), -1);
  EXPECT_EQ(errno, EPROTO);
  const std::string version =
      std::to_string(SHM_VERSION_MAJOR) + '.' + std::to_string(SHM_VERSION_MINOR);
  EXPECT_EQ(postern_last_error(),
            "posternd speaks version " + version + ", this library " + version);
}

TEST(Attach, OnceAndAgain) {
  MiniDaemon daemon;
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(postern_attach(daemon.path().c_str()), 0);
    EXPECT_EQ(postern_attach(daemon.path().c_str()), -1);
    EXPECT_EQ(errno, EISCONN);
    EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), 0);  // numbers begin anew
    EXPECT_EQ(postern_detach(), 0);
  }
}

TEST(Attach, PathFromTheEnvironment) {
  MiniDaemon daemon;
  setenv("POSTERN_SOCKET", daemon.path().c_str(), 1);
  EXPECT_EQ(postern_attach(nullptr), 0);
  unsetenv("POSTERN_SOCKET");
  EXPECT_EQ(postern_detach(), 0);
}

TEST(Attach, DescriptorsAreTheLowestFree) {
  MiniDaemon daemon;
  ASSERT_EQ(postern_attach(daemon.path().c_str()), 0);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), i);
  EXPECT_EQ(postern_close(70), 0);
  EXPECT_EQ(postern_close(3), 0);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), 3);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), 70);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), 100);
  EXPECT_EQ(postern_close(1000), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(postern_close(-1), -1);
  postern_detach();
}

TEST(Attach, SlotsRunOut) {
  MiniDaemon daemon;
  ASSERT_EQ(postern_attach(daemon.path().c_str()), 0);
  for (int i = 0; i < 128; ++i) ASSERT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), i);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), -1);
  EXPECT_EQ(errno, ENOBUFS);
  EXPECT_EQ(postern_close(5), 0);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, 0), 5);
  postern_detach();
}

TEST(Attach, AForkBeforeItSharesNothing) {
  MiniDaemon daemon;
  const pid_t child = fork();
  if (child == 0) _exit(postern_socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == ENOTCONN ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Attach, TheChildMayDetachAlone) {
  MiniDaemon daemon;
  ASSERT_EQ(postern_attach(daemon.path().c_str()), 0);
  const int fd = postern_socket(AF_INET, SOCK_STREAM, 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool right = postern_socket(AF_INET, SOCK_STREAM, 0) == fd + 1 && postern_detach() == 0 &&
                       postern_close(fd) == -1 && errno == EBADF;
    _exit(right ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(postern_close(fd), 0);
  EXPECT_GE(postern_socket(AF_INET, SOCK_STREAM, 0), 0);
  postern_detach();
}

TEST_F(ClientTest, SocketArguments) {
  EXPECT_EQ(postern_socket(AF_UNIX, SOCK_STREAM, 0), -1);
  EXPECT_EQ(errno, EAFNOSUPPORT);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_RAW, 0), -1);
  EXPECT_EQ(errno, ESOCKTNOSUPPORT);
  EXPECT_EQ(postern_socket(AF_INET, 77, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), -1);
  EXPECT_EQ(errno, EPROTONOSUPPORT);
  EXPECT_GE(postern_socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP), 0);
}

// ---- the end of the daemon ----

TEST_F(ClientTest, EvictionEndsBlockedCallsAndSaysWhy) {
  const Pair p = connected();
  std::thread reader([&] {
    char byte;
    EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNABORTED);
    EXPECT_STREQ(postern_last_error(), "command: slot out of range");
  });
  std::thread poller([&] {
    postern_pollfd fds{p.b, POLLIN, 0};
    EXPECT_EQ(postern_poll(&fds, 1, -1), 1);
    EXPECT_EQ(fds.revents & (POLLERR | POLLHUP), POLLERR | POLLHUP);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  daemon_->evict("command: slot out of range");
  reader.join();
  poller.join();
  EXPECT_EQ(tcp(), -1);
  EXPECT_EQ(errno, ECONNABORTED);
  EXPECT_EQ(postern_send(p.a, "x", 1, 0), -1);
  EXPECT_EQ(errno, ECONNABORTED);
  EXPECT_EQ(postern_close(p.a), 0);
}

TEST_F(ClientTest, DaemonDeathEndsEverySleep) {
  const Pair p = connected();
  const int l = listener(1100);
  postern_queue* q = postern_queue_create();
  ASSERT_EQ(postern_queue_add(q, p.b, POLLIN, 7), 0);
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    char byte;
    EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNABORTED);
    EXPECT_STREQ(postern_last_error(), "posternd is gone");
  });
  threads.emplace_back([&] {
    EXPECT_EQ(postern_accept(l, nullptr, nullptr), -1);
    EXPECT_EQ(errno, ECONNABORTED);
  });
  threads.emplace_back([&] {
    postern_event e;
    EXPECT_EQ(postern_queue_wait(q, &e, 1, -1), 1);
    EXPECT_EQ(e.data, 7U);
    EXPECT_NE(e.events & POLLERR, 0U);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  daemon_->die();
  for (auto& t : threads) t.join();
  postern_queue_destroy(q);
}

TEST_F(ClientTest, DaemonDeathIsNoticedByThoseWhoNeverSleep) {
  const Pair p = connected();
  daemon_->die();
  const auto start = std::chrono::steady_clock::now();
  char byte;
  do {
    ASSERT_EQ(postern_recv(p.a, &byte, 1, MSG_DONTWAIT), -1);
  } while (errno == EAGAIN && elapsed_ms(start) < 5000);
  EXPECT_EQ(errno, ECONNABORTED);
}

TEST_F(ClientTest, WhatHadArrivedIsReadAfterDeath) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "last words", 10));
  ASSERT_TRUE(eventually([&] { return postern_available(p.b) == 10; }));
  daemon_->die();
  char buffer[32];
  EXPECT_EQ(postern_recv(p.b, buffer, sizeof buffer, 0), 10);
  EXPECT_EQ(postern_recv(p.b, buffer, sizeof buffer, 0), -1);
  EXPECT_EQ(errno, ECONNABORTED);
}

}  // namespace
}  // namespace postern::test
