#include <poll.h>

#include <atomic>

#include "fixture.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

TEST_F(ClientTest, PollReportsEachDescriptor) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "x", 1));
  ASSERT_TRUE(eventually([&] { return postern_available(p.b) == 1; }));
  postern_pollfd f[] = {
      {p.a, POLLIN, 0}, {p.b, POLLIN, 0}, {-1, POLLIN, 9}, {999, POLLIN, 0}, {p.a, POLLOUT, 0}};
  EXPECT_EQ(postern_poll(f, 5, -1), 3);
  EXPECT_EQ(f[0].revents, 0);
  EXPECT_EQ(f[1].revents, POLLIN);
  EXPECT_EQ(f[2].revents, 0);
  EXPECT_EQ(f[3].revents, POLLNVAL);
  EXPECT_EQ(f[4].revents, POLLOUT);
  postern_pollfd fresh{tcp(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(postern_poll(&fresh, 1, 0), 1);
  EXPECT_EQ(fresh.revents, POLLOUT | POLLHUP);
}

TEST_F(ClientTest, PollTimesOutAndWakes) {
  const Pair p = connected();
  postern_pollfd f{p.b, POLLIN, 0};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(postern_poll(&f, 1, 40), 0);
  EXPECT_GE(elapsed_ms(start), 39);
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    EXPECT_TRUE(send_all(p.a, "x", 1));
  });
  EXPECT_EQ(postern_poll(&f, 1, -1), 1);
  later.join();
}

TEST_F(ClientTest, ManyThreadsPollDifferentSockets) {
  constexpr int kThreads = 6;
  std::vector<Pair> pairs;
  for (int i = 0; i < kThreads; ++i) pairs.push_back(connected(static_cast<uint16_t>(400 + i)));
  std::vector<std::thread> threads;
  for (const Pair& p : pairs) {
    threads.emplace_back([p] {
      for (int round = 0; round < 200; ++round) {
        postern_pollfd f{p.b, POLLIN, 0};
        ASSERT_EQ(postern_poll(&f, 1, 5000), 1);
        char byte;
        ASSERT_EQ(postern_recv(p.b, &byte, 1, MSG_DONTWAIT), 1);
        ASSERT_EQ(postern_send(p.b, &byte, 1, 0), 1);
      }
    });
  }
  for (int round = 0; round < 200; ++round) {
    for (const Pair& p : pairs) ASSERT_EQ(postern_send(p.a, "x", 1, 0), 1);
    char byte;
    for (const Pair& p : pairs) ASSERT_EQ(postern_recv(p.a, &byte, 1, 0), 1);
  }
  for (auto& t : threads) t.join();
}

class QueueTest : public ClientTest {
 protected:
  void SetUp() override {
    ClientTest::SetUp();
    queue_ = postern_queue_create();
    ASSERT_NE(queue_, nullptr);
  }
  void TearDown() override {
    postern_queue_destroy(queue_);
    ClientTest::TearDown();
  }
  int wait(int timeout = 2000) { return postern_queue_wait(queue_, events_, 16, timeout); }

  postern_queue* queue_ = nullptr;
  postern_event events_[16];
};

TEST_F(QueueTest, LevelEvents) {
  const Pair p = connected();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN, 42), 0);
  EXPECT_EQ(postern_queue_add(queue_, p.b, POLLIN, 42), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(wait(10), 0);
  ASSERT_TRUE(send_all(p.a, "ab", 2));
  ASSERT_EQ(wait(), 1);
  EXPECT_EQ(events_[0].data, 42U);
  EXPECT_EQ(events_[0].fd, p.b);
  EXPECT_EQ(events_[0].events, static_cast<uint32_t>(POLLIN));
  char byte;
  EXPECT_EQ(postern_recv(p.b, &byte, 1, 0), 1);
  EXPECT_EQ(wait(), 1);  // one byte is left
  EXPECT_EQ(postern_recv(p.b, &byte, 1, 0), 1);
  EXPECT_EQ(wait(10), 0);
}

TEST_F(QueueTest, WhatIsThereAlreadyIsReported) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "a", 1));
  ASSERT_TRUE(eventually([&] { return postern_available(p.b) == 1; }));
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN | POSTERN_EDGE, 1), 0);
  EXPECT_EQ(wait(), 1);
  EXPECT_EQ(wait(10), 0);  // an edge is reported once
  ASSERT_TRUE(send_all(p.a, "b", 1));
  EXPECT_EQ(wait(), 1);
}

TEST_F(QueueTest, OneShot) {
  const Pair p = connected();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN | POSTERN_ONESHOT, 1), 0);
  ASSERT_TRUE(send_all(p.a, "a", 1));
  EXPECT_EQ(wait(), 1);
  ASSERT_TRUE(send_all(p.a, "b", 1));
  EXPECT_EQ(wait(20), 0);
  ASSERT_EQ(postern_queue_modify(queue_, p.b, POLLIN | POSTERN_ONESHOT, 2), 0);
  ASSERT_EQ(wait(), 1);
  EXPECT_EQ(events_[0].data, 2U);
}

// As on Linux: bytes that nobody reads are not told of again because others were acknowledged.
TEST_F(QueueTest, AnAcknowledgementTellsWritersOnly) {
  const Pair p = connected();
  const auto exchange = [&] {
    char bytes[10] = {};
    ASSERT_TRUE(send_all(p.a, bytes, sizeof bytes));
    ASSERT_EQ(postern_recv(p.b, bytes, sizeof bytes, MSG_WAITALL), 10);
    ASSERT_TRUE(eventually([&] { return tx_used() == 0; }));
  };
  postern_event e;
  ASSERT_EQ(postern_queue_add(queue_, p.a, POLLIN | POSTERN_EDGE, 1), 0);
  ASSERT_TRUE(send_all(p.b, "unread", 6));
  ASSERT_EQ(postern_queue_wait(queue_, &e, 1, 1000), 1);
  exchange();
  EXPECT_EQ(postern_queue_wait(queue_, &e, 1, 0), 0);
  ASSERT_EQ(postern_queue_modify(queue_, p.a, POLLIN | POLLOUT | POSTERN_EDGE, 1), 0);
  ASSERT_EQ(postern_queue_wait(queue_, &e, 1, 0), 1);
  exchange();
  EXPECT_EQ(postern_queue_wait(queue_, &e, 1, 0), 1);
  EXPECT_EQ(e.events, static_cast<uint32_t>(POLLIN | POLLOUT));
}

TEST_F(QueueTest, RemovalAndClose) {
  const Pair p = connected();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN, 1), 0);
  ASSERT_EQ(postern_queue_remove(queue_, p.b), 0);
  EXPECT_EQ(postern_queue_remove(queue_, p.b), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(postern_queue_modify(queue_, p.b, POLLIN, 1), -1);
  EXPECT_EQ(errno, ENOENT);
  ASSERT_TRUE(send_all(p.a, "a", 1));
  EXPECT_EQ(wait(20), 0);
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN, 1), 0);
  EXPECT_EQ(postern_close(p.b), 0);
  EXPECT_EQ(wait(0), 0);
  EXPECT_EQ(postern_queue_remove(queue_, p.b), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(QueueTest, DescriptorsOfOneSocketAreWatchedEach) {
  const Pair p = connected();
  const int copy = postern_dup(p.b);
  ASSERT_GE(copy, 0);
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN, 1), 0);
  ASSERT_EQ(postern_queue_add(queue_, copy, POLLIN, 2), 0);
  ASSERT_TRUE(send_all(p.a, "a", 1));
  ASSERT_TRUE(eventually([&] { return postern_available(copy) == 1; }));
  EXPECT_EQ(wait(), 2);
  EXPECT_EQ(postern_close(p.b), 0);
  ASSERT_EQ(wait(), 1);
  EXPECT_EQ(events_[0].data, 2U);
  EXPECT_EQ(events_[0].fd, copy);
  EXPECT_EQ(postern_dup(p.b), -1);
  EXPECT_EQ(errno, EBADF);
  const int again = postern_dup(copy);  // the number that was closed, and no watch of it is left
  EXPECT_EQ(again, p.b);
  EXPECT_EQ(postern_queue_add(queue_, again, POLLIN, 3), 0);
}

TEST_F(QueueTest, CostsDependOnTheActive) {
  std::vector<Pair> pairs;
  for (uint16_t i = 0; i < 60; ++i) {
    pairs.push_back(connected(static_cast<uint16_t>(4000 + i)));
    ASSERT_EQ(postern_queue_add(queue_, pairs.back().b, POLLIN | POLLOUT | POSTERN_EDGE, i), 0);
  }
  int drained = 0;
  while ((drained = wait(0)) > 0) continue;
  for (const uint16_t i : {3, 17, 59}) {
    ASSERT_TRUE(send_all(pairs[i].a, "x", 1));
    ASSERT_EQ(wait(), 1);
    EXPECT_EQ(events_[0].data, i);
  }
}

TEST_F(QueueTest, WakeEndsAWait) {
  ASSERT_EQ(postern_queue_wake(queue_), 0);
  EXPECT_EQ(wait(-1), 0);
  std::thread waker([&] {
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(postern_queue_wake(queue_), 0);
  });
  EXPECT_EQ(wait(-1), 0);
  waker.join();
}

TEST_F(QueueTest, TwoQueuesAndABlockedThreadShareTheDoorbell) {
  const Pair p = connected(5000), q = connected(5001), r = connected(5002);
  postern_queue* other = postern_queue_create();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN, 1), 0);
  ASSERT_EQ(postern_queue_add(other, q.b, POLLIN, 2), 0);
  constexpr int kRounds = 300;
  const auto serve = [](postern_queue* queue, int fd) {
    for (int i = 0; i < kRounds; ++i) {
      postern_event e;
      ASSERT_EQ(postern_queue_wait(queue, &e, 1, 5000), 1);
      char byte;
      ASSERT_EQ(postern_recv(fd, &byte, 1, 0), 1);
      ASSERT_EQ(postern_send(fd, &byte, 1, 0), 1);
    }
  };
  std::thread t1([&] { serve(queue_, p.b); });
  std::thread t2([&] { serve(other, q.b); });
  std::thread t3([&] {
    for (int i = 0; i < kRounds; ++i) {
      char byte;
      ASSERT_EQ(postern_recv(r.b, &byte, 1, 0), 1);
      ASSERT_EQ(postern_send(r.b, &byte, 1, 0), 1);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    for (const int fd : {p.a, q.a, r.a}) ASSERT_EQ(postern_send(fd, "x", 1, 0), 1);
    char byte;
    for (const int fd : {r.a, q.a, p.a}) ASSERT_EQ(postern_recv(fd, &byte, 1, 0), 1);
    if (i % 10 == 0) std::this_thread::sleep_for(200us);  // everybody falls asleep
  }
  t1.join();
  t2.join();
  t3.join();
  postern_queue_destroy(other);
}

// ---- inside other event loops ----

TEST_F(QueueTest, ArmedDescriptorBecomesReadable) {
  const Pair p = connected();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN | POSTERN_EDGE, 1), 0);
  while (wait(0) > 0) continue;
  const int fd = postern_queue_fd(queue_);
  ASSERT_GE(fd, 0);
  while (postern_queue_arm(queue_) != 0) wait(0);
  pollfd k{fd, POLLIN, 0};
  EXPECT_EQ(::poll(&k, 1, 20), 0);  // nothing happens, nothing is readable
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    EXPECT_TRUE(send_all(p.a, "x", 1));
  });
  EXPECT_EQ(::poll(&k, 1, 5000), 1);
  ASSERT_EQ(wait(0), 1);
  later.join();
  char byte;
  EXPECT_EQ(postern_recv(p.b, &byte, 1, 0), 1);
  while (postern_queue_arm(queue_) != 0) wait(0);
  EXPECT_EQ(::poll(&k, 1, 20), 0);  // quiet again
}

TEST_F(QueueTest, EventLoopAndThreadsTogether) {
  const Pair p = connected(5100), q = connected(5101);
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN | POSTERN_EDGE, 1), 0);
  constexpr int kRounds = 300;
  std::thread loop([&] {
    pollfd k{postern_queue_fd(queue_), POLLIN, 0};
    int echoed = 0;
    while (echoed < kRounds) {
      while (wait(0) > 0) {
        char byte;
        while (postern_recv(p.b, &byte, 1, MSG_DONTWAIT) == 1) {
          ASSERT_EQ(postern_send(p.b, &byte, 1, 0), 1);
          ++echoed;
        }
      }
      if (echoed < kRounds && postern_queue_arm(queue_) == 0) {
        ASSERT_EQ(::poll(&k, 1, 5000), 1);
      }
    }
  });
  std::thread blocked([&] {
    for (int i = 0; i < kRounds; ++i) {
      char byte;
      ASSERT_EQ(postern_recv(q.b, &byte, 1, 0), 1);
      ASSERT_EQ(postern_send(q.b, &byte, 1, 0), 1);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    char byte;
    for (const int fd : {p.a, q.a}) ASSERT_EQ(postern_send(fd, "x", 1, 0), 1);
    for (const int fd : {q.a, p.a}) ASSERT_EQ(postern_recv(fd, &byte, 1, 0), 1);
    if (i % 10 == 0) std::this_thread::sleep_for(200us);
  }
  loop.join();
  blocked.join();
}

TEST_F(QueueTest, DeathReachesTheEventLoop) {
  const Pair p = connected();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN | POSTERN_EDGE, 1), 0);
  while (wait(0) > 0) continue;
  pollfd k{postern_queue_fd(queue_), POLLIN, 0};
  while (postern_queue_arm(queue_) != 0) wait(0);
  daemon_->die();
  EXPECT_EQ(::poll(&k, 1, 2000), 1);
  ASSERT_EQ(wait(1000), 1);
  EXPECT_NE(events_[0].events & POLLERR, 0U);
  EXPECT_EQ(wait(0), -1);
  EXPECT_EQ(errno, ECONNABORTED);
}

TEST_F(QueueTest, OutlivesADetach) {
  const Pair p = connected();
  ASSERT_EQ(postern_queue_add(queue_, p.b, POLLIN, 1), 0);
  postern_detach();
  EXPECT_EQ(wait(0), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(postern_queue_fd(queue_), -1);
}

TEST_F(ClientTest, NoSystemCallSleepsWhileThereIsSomethingToDo) {
  postern_set_spin(1000000);
  const Pair p = connected();
  char byte;
  ASSERT_EQ(postern_send(p.a, "x", 1, 0), 1);
  ASSERT_EQ(postern_recv(p.b, &byte, 1, 0), 1);
  postern_stats before, after;
  postern_get_stats(&before);
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(postern_send(p.a, "x", 1, 0), 1);
    ASSERT_EQ(postern_recv(p.b, &byte, 1, 0), 1);
  }
  postern_get_stats(&after);
  EXPECT_EQ(after.sleeps, before.sleeps);
  postern_set_spin(30);
}

}  // namespace
}  // namespace postern::test
