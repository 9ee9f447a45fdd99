// The daemon's view of a client that writes what it likes.
#include "shm/channel.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

namespace postern::test {
namespace {

constexpr uint32_t kEntries = 16;

// The client's side of one channel, written to directly.
class RawClient {
 public:
  explicit RawClient(const AppSegment& segment)
      : client_size_(segment.client_size()), daemon_size_(segment.daemon_size()) {
    client_ = map(segment.client_fd(), segment.client_size(), PROT_READ | PROT_WRITE);
    daemon_ = map(segment.daemon_fd(), segment.daemon_size(), PROT_READ);
    commands = region<shm_command>(client_, SHM_REGION_COMMAND_RING);
    requests = region<shm_request>(client_, SHM_REGION_REQUESTS);
    control = region<shm_channel_client>(client_, SHM_REGION_CHANNEL_CLIENT);
    tx = region<uint8_t>(client_, SHM_REGION_TX_POOL);
    events = region<shm_event>(daemon_, SHM_REGION_EVENT_RING);
    daemon_control = region<shm_channel_daemon>(daemon_, SHM_REGION_CHANNEL_DAEMON);
    errors = region<shm_error>(daemon_, SHM_REGION_ERRORS);
  }
  ~RawClient() {
    munmap(client_, client_size_);
    munmap(daemon_, daemon_size_);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  void push(shm_command c) {
    shm_command* e = &commands[tail_ & (kEntries - 1)];
    c.seq = e->seq;
    *e = c;
    __atomic_store_n(&e->seq, ++tail_, __ATOMIC_RELEASE);
  }

  shm_command* commands;
  shm_request* requests;
  shm_channel_client* control;
  uint8_t* tx;
  shm_event* events;
  shm_channel_daemon* daemon_control;
  shm_error* errors;

 private:
  static char* map(int fd, size_t size, int protection) {
    return static_cast<char*>(mmap(nullptr, size, protection, MAP_SHARED, fd, 0));
  }
  template <class T>
  static T* region(char* base, uint32_t kind) {
    const auto* h = reinterpret_cast<shm_header*>(base);
    const auto* r = reinterpret_cast<shm_region*>(base + h->regions_offset);
    for (uint32_t i = 0; i < h->region_count; ++i) {
      if (r[i].kind == kind) return reinterpret_cast<T*>(base + r[i].offset);
    }
    return nullptr;
  }
  size_t client_size_;
  size_t daemon_size_;
  char* client_;
  char* daemon_;
  uint32_t tail_ = 0;
};

class ChannelTest : public ::testing::Test {
 protected:
  static SegmentOptions options() {
    SegmentOptions o;
    o.slots = 64;
    o.client_slots = 32;
    o.command_entries = kEntries;
    o.event_entries = kEntries;
    o.rx_pool_bytes = 256 << 10;
    o.tx_pool_bytes = 128 << 10;
    return o;
  }
  static shm_command command(uint8_t op) {
    shm_command c{};
    c.op = op;
    c.slot = 3;
    c.generation = 7;
    if (op == SHM_OP_OPEN) c.arg = IPPROTO_TCP;
    if (op == SHM_OP_SEND) c.length = 100;
    if (op == SHM_OP_SENDTO) c.length = 48;
    if (op == SHM_OP_SETOPT) c.arg = SHM_OPT_NODELAY;
    return c;
  }
  // Whether a fresh channel takes the command.
  static bool accepted(const shm_command& c) {
    const auto segment = AppSegment::create(options());
    Channel channel(*segment, 0);
    RawClient client(*segment);
    client.push(c);
    shm_command out;
    const bool taken = channel.next_command(&out);
    EXPECT_EQ(taken, channel.violation() == nullptr);
    return taken;
  }

  std::unique_ptr<AppSegment> segment_ = AppSegment::create(options());
  Channel channel_{*segment_, 0};
  RawClient client_{*segment_};
};

TEST_F(ChannelTest, CommandsArriveInOrderOverManyLaps) {
  shm_command out;
  EXPECT_FALSE(channel_.next_command(&out));
  EXPECT_FALSE(channel_.commands_pending());
  uint32_t sent = 0, taken = 0;
  std::mt19937 random(1);
  while (taken < 1000) {
    while (sent - taken < kEntries && random() % 3 != 0) {
      shm_command c = command(SHM_OP_RECEIVED);
      c.rx_head = sent++;
      client_.push(c);
    }
    EXPECT_EQ(channel_.commands_pending(), sent != taken);
    while (taken < sent && random() % 4 != 0) {
      ASSERT_TRUE(channel_.next_command(&out)) << channel_.violation();
      EXPECT_EQ(out.rx_head, taken++);
    }
    channel_.publish_commands();
    EXPECT_EQ(client_.daemon_control->command_head, taken);
  }
  EXPECT_EQ(channel_.violation(), nullptr);
}

TEST_F(ChannelTest, EveryOperationPassesWhenItIsRight) {
  for (uint8_t op = SHM_OP_OPEN; op <= SHM_OP_INFO; ++op) EXPECT_TRUE(accepted(command(op)));
}

TEST_F(ChannelTest, WhatIsOutOfRangeIsAViolation) {
  const auto refused = [](uint8_t op, auto change) {
    shm_command c = command(op);
    change(c);
    EXPECT_FALSE(accepted(c)) << int{op};
  };
  refused(0, [](shm_command&) {});
  refused(SHM_OP_INFO + 1, [](shm_command&) {});
  refused(255, [](shm_command&) {});
  for (uint8_t op = SHM_OP_OPEN; op <= SHM_OP_INFO; ++op) {
    refused(op, [](shm_command& c) { c.slot = 64; });
    refused(op, [](shm_command& c) { c.slot = UINT32_MAX; });
    refused(op, [](shm_command& c) { c.generation = 0; });
    refused(op, [](shm_command& c) { c.flags = 16; });
  }
  for (const uint8_t op : {SHM_OP_OPEN, SHM_OP_CONNECT}) {
    refused(op, [](shm_command& c) { c.slot = 32; });  // one of the daemon's
  }
  refused(SHM_OP_OPEN, [](shm_command& c) { c.arg = IPPROTO_ICMP; });
  for (const uint8_t op : {SHM_OP_SEND, SHM_OP_SENDTO}) {
    refused(op, [](shm_command& c) { c.length = 0; });
    refused(op, [](shm_command& c) { c.offset = 128 << 10; });
    refused(op, [](shm_command& c) { c.offset = (128 << 10) - 40; });
    refused(op, [](shm_command& c) { c.offset = UINT64_MAX - 15; });
    refused(op, [](shm_command& c) { c.length = UINT32_MAX; });
    refused(op, [](shm_command& c) { c.length = (128 << 10) + 8; });
  }
  refused(SHM_OP_SENDTO, [](shm_command& c) { c.offset = 4; });
  refused(SHM_OP_SENDTO, [](shm_command& c) { c.length = 47; });
  refused(SHM_OP_SHUTDOWN, [](shm_command& c) { c.arg = 3; });
  refused(SHM_OP_CLOSE, [](shm_command& c) { c.arg = 2; });
  refused(SHM_OP_SETOPT, [](shm_command& c) { c.arg = 0; });
  refused(SHM_OP_SETOPT, [](shm_command& c) { c.arg = SHM_OPT_LAST + 1; });
}

TEST_F(ChannelTest, TheEdgesOfTheTransmitRegionAreInside) {
  shm_command c = command(SHM_OP_SEND);
  c.offset = (128 << 10) - 100;
  EXPECT_TRUE(accepted(c));
  c.offset = 0;
  c.length = 128 << 10;
  EXPECT_TRUE(accepted(c));
  c.offset = 1;
  EXPECT_FALSE(accepted(c));
}

TEST_F(ChannelTest, ImpossibleSequenceWords) {
  shm_command out;
  client_.commands[0].seq = 2;
  EXPECT_FALSE(channel_.next_command(&out));
  EXPECT_NE(channel_.violation(), nullptr);
}

TEST_F(ChannelTest, OnlyTheLastLapsSequenceWordIsEmpty) {
  shm_command out;
  for (uint32_t i = 0; i < kEntries; ++i) {
    client_.push(command(SHM_OP_RECEIVED));
    ASSERT_TRUE(channel_.next_command(&out));
  }
  EXPECT_FALSE(channel_.next_command(&out));  // seq is 1 from the lap before
  EXPECT_EQ(channel_.violation(), nullptr);
  client_.commands[0].seq = 0;  // no correct producer writes it again
  EXPECT_FALSE(channel_.next_command(&out));
  EXPECT_NE(channel_.violation(), nullptr);
}

TEST_F(ChannelTest, AfterAViolationNothingMoreIsTaken) {
  shm_command bad = command(SHM_OP_SEND);
  bad.slot = 64;
  client_.push(bad);
  client_.push(command(SHM_OP_SEND));
  shm_command out;
  EXPECT_FALSE(channel_.next_command(&out));
  const std::string reason = channel_.violation();
  EXPECT_FALSE(channel_.next_command(&out));
  EXPECT_FALSE(channel_.commands_pending());
  EXPECT_FALSE(channel_.push_event({}));
  channel_.set_violation("a later reason");
  EXPECT_EQ(channel_.violation(), reason);  // the first one stays
}

TEST_F(ChannelTest, RequestsAreCopied) {
  std::memset(&client_.requests[5], 0x5a, sizeof(shm_request));
  client_.requests[5].remote_port = 443;
  const shm_request r = channel_.request(5);
  EXPECT_EQ(std::memcmp(&r, &client_.requests[5], sizeof r), 0);
}

TEST_F(ChannelTest, DatagramsHaveToFitTheirRecord) {
  shm_command c = command(SHM_OP_SENDTO);
  c.length = 48 + 104;
  c.offset = 8;
  auto* d = reinterpret_cast<shm_datagram*>(client_.tx + 8);
  d->length = 100;
  d->port = 53;
  shm_datagram out;
  EXPECT_TRUE(channel_.datagram(c, &out));
  EXPECT_EQ(out.port, 53);
  EXPECT_EQ(out.length, 100U);
  d->length = 105;
  EXPECT_FALSE(channel_.datagram(c, &out));
  EXPECT_NE(channel_.violation(), nullptr);
}

TEST_F(ChannelTest, EventsStopAtAFullRingAndGoOn) {
  shm_event e{};
  e.type = SHM_EVENT_UPDATE;
  for (uint32_t i = 0; i < kEntries; ++i) {
    e.rx_tail = i;
    ASSERT_TRUE(channel_.push_event(e));
    EXPECT_EQ(client_.events[i].seq, i + 1);
    EXPECT_EQ(client_.events[i].rx_tail, i);
  }
  EXPECT_FALSE(channel_.push_event(e));
  client_.control->event_head = 3;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(channel_.push_event(e));
  EXPECT_FALSE(channel_.push_event(e));
  EXPECT_EQ(channel_.violation(), nullptr);
}

TEST_F(ChannelTest, ImpossibleHeadsAreViolations) {
  for (const uint32_t head : {kEntries + 1, UINT32_MAX, 0x80000000U}) {
    const auto segment = AppSegment::create(options());
    Channel channel(*segment, 0);
    RawClient client(*segment);
    for (uint32_t i = 0; i < kEntries; ++i) ASSERT_TRUE(channel.push_event({}));
    client.control->event_head = head;
    EXPECT_FALSE(channel.push_event({}));
    EXPECT_NE(channel.violation(), nullptr) << head;
  }
}

TEST_F(ChannelTest, HeadsThatGoBackAreViolations) {
  for (uint32_t i = 0; i < kEntries; ++i) ASSERT_TRUE(channel_.push_event({}));
  client_.control->event_head = 8;
  for (uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(channel_.push_event({}));
  client_.control->event_head = 7;
  EXPECT_FALSE(channel_.push_event({}));
  EXPECT_NE(channel_.violation(), nullptr);
}

TEST_F(ChannelTest, OldErrorsAreWrittenOver) {
  const auto segment = AppSegment::create(options());
  Channel channel(*segment, 0);
  const RawClient client(*segment);
  for (uint32_t i = 0; i < 3 * SHM_ERRORS + 5; ++i) {
    shm_error e{};
    e.seq = 99;  // not the caller's to say
    e.slot = i;
    e.length = 4;
    channel.push_error(e);
    const shm_error& there = client.errors[i % SHM_ERRORS];
    EXPECT_EQ(there.seq, i + 1);
    EXPECT_EQ(there.slot, i);
    EXPECT_EQ(there.length, 4);
    EXPECT_EQ(channel.error_tail(), i + 1);
  }
  EXPECT_EQ(client.errors[5].seq, 2 * SHM_ERRORS + 6u) << "the oldest that is left";
}

TEST_F(ChannelTest, TheDoorbellIsDueOncePerArming) {
  EXPECT_FALSE(channel_.doorbell_due());
  client_.control->armed = 1;
  EXPECT_TRUE(channel_.doorbell_due());
  EXPECT_FALSE(channel_.doorbell_due());
  client_.control->armed = 2;
  EXPECT_FALSE(channel_.doorbell_due());
  client_.control->armed = 3;
  EXPECT_TRUE(channel_.doorbell_due());
  channel_.arm();
  EXPECT_EQ(client_.daemon_control->armed, 1U);
  channel_.disarm();
  EXPECT_EQ(client_.daemon_control->armed, 2U);
}

// The client rewrites an entry while it is taken: whatever is taken has passed the checks.
TEST_F(ChannelTest, NoEntryIsReadTwice) {
  std::atomic<bool> stop{false};
  std::thread hostile([&] {
    std::mt19937_64 random(3);
    while (!stop) {
      for (uint32_t i = 0; i < kEntries; ++i) {
        auto* word = reinterpret_cast<uint64_t*>(&client_.commands[i]);
        __atomic_store_n(word + 1, random() % 2 == 0 ? 3 | uint64_t{7} << 32 : random(),
                         __ATOMIC_RELAXED);
        __atomic_store_n(word + 3, random() % 2 == 0 ? 0 : random(), __ATOMIC_RELAXED);
      }
    }
  });
  for (int round = 0; round < 2000; ++round) {
    Channel channel(*segment_, 0);
    for (uint32_t i = 0; i < kEntries; ++i) {
      __atomic_store_n(&client_.commands[i].op, uint8_t{SHM_OP_SEND}, __ATOMIC_RELAXED);
      __atomic_store_n(&client_.commands[i].seq, i + 1, __ATOMIC_RELEASE);
    }
    shm_command out;
    while (channel.next_command(&out)) {
      ASSERT_LT(out.slot, 64U);
      ASSERT_NE(out.generation, 0U);
      ASSERT_LE(out.offset + out.length, 128U << 10);
    }
  }
  stop = true;
  hostile.join();
}

}  // namespace
}  // namespace postern::test
