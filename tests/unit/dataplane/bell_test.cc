#include "dataplane/bell.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

#include "base/spsc_ring.h"

namespace postern {
namespace {

bool readable(int fd, int ms) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, ms) == 1;
}

TEST(Bell, CostsNoCallWhileNobodySleeps) {
  Bell bell;
  bell.ring();
  EXPECT_FALSE(readable(bell.fd(), 0));
  bell.arm();
  bell.ring();
  EXPECT_TRUE(readable(bell.fd(), 0));
  bell.clear();
  bell.ring();  // rung once for this sleep
  EXPECT_FALSE(readable(bell.fd(), 0));
}

// Two threads; each item is announced once. A lost wake-up shows as a poll that times out.
TEST(Bell, NoWakeUpIsLost) {
  constexpr uint32_t kItems = 50000;
  Bell bell;
  SpscRing<uint32_t> ring(8);
  std::thread waker([&] {
    for (uint32_t i = 0; i < kItems; ++i) {
      while (!ring.push(i)) std::this_thread::yield();
      bell.ring();
    }
  });
  uint32_t next = 0;
  bool lost = false;
  while (next < kItems && !lost) {
    uint32_t item = 0;
    while (ring.pop(&item)) EXPECT_EQ(item, next++);
    if (next == kItems) break;
    bell.arm();
    if (ring.empty()) lost = !readable(bell.fd(), 5000);
    bell.disarm();
    bell.clear();
  }
  waker.join();
  EXPECT_FALSE(lost);
  EXPECT_EQ(next, kItems);
}

}  // namespace
}  // namespace postern
