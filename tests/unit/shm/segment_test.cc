#include "shm/segment.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <stdexcept>

#include "shm/channel.h"

namespace postern::test {
namespace {

SegmentOptions small() {
  SegmentOptions o;
  o.channels = 2;
  o.slots = 64;
  o.client_slots = 32;
  o.command_entries = 16;
  o.event_entries = 16;
  o.rx_pool_bytes = 256 << 10;
  o.tx_pool_bytes = 128 << 10;
  return o;
}

class Map {
 public:
  Map(int fd, size_t size, int protection) : size_(size) {
    base_ = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  }
  ~Map() {
    if (base_ != MAP_FAILED) munmap(base_, size_);
  }
  [[nodiscard]] bool ok() const { return base_ != MAP_FAILED; }
  template <class T>
  T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(base_) + offset);
  }

 private:
  void* base_;
  size_t size_;
};

TEST(Segment, HeaderAndRegions) {
  const auto segment = AppSegment::create(small());
  std::set<std::pair<uint32_t, uint32_t>> kinds;
  const Map daemon(segment->daemon_fd(), segment->daemon_size(), PROT_READ);
  const Map client(segment->client_fd(), segment->client_size(), PROT_READ);
  for (const Map* map : {&daemon, &client}) {
    ASSERT_TRUE(map->ok());
    const auto* h = map->at<shm_header>(0);
    EXPECT_EQ(h->magic, SHM_MAGIC);
    EXPECT_EQ(h->version_major, SHM_VERSION_MAJOR);
    EXPECT_EQ(h->channel_count, 2U);
    EXPECT_EQ(h->slots, 64U);
    EXPECT_EQ(h->state, static_cast<uint32_t>(SHM_STATE_RUNNING));
    uint64_t end = h->regions_offset + h->region_count * sizeof(shm_region);
    for (uint32_t i = 0; i < h->region_count; ++i) {
      const shm_region& r = map->at<shm_region>(h->regions_offset)[i];
      EXPECT_EQ(r.offset % 4096, 0U);
      EXPECT_GE(r.offset, end);  // in order, not overlapping
      end = r.offset + r.size;
      EXPECT_LE(end, h->segment_size);
      EXPECT_TRUE(kinds.insert({r.kind, r.channel}).second);
    }
  }
  EXPECT_EQ(kinds.size(), 23U);
}

TEST(Segment, SettingsReachTheClient) {
  SegmentOptions options = small();
  options.settings.receive_buffer = 12345;
  options.settings.network_count = 1;
  options.settings.networks[0].bits = 104;
  const auto segment = AppSegment::create(options);
  const Map daemon(segment->daemon_fd(), segment->daemon_size(), PROT_READ);
  ASSERT_TRUE(daemon.ok());
  const auto* h = daemon.at<shm_header>(0);
  const auto* regions = daemon.at<shm_region>(h->regions_offset);
  const auto* found = std::find_if(regions, regions + h->region_count, [](const shm_region& r) {
    return r.kind == SHM_REGION_SETTINGS;
  });
  ASSERT_NE(found, regions + h->region_count);
  ASSERT_EQ(found->size, sizeof(shm_settings));
  const auto* settings = daemon.at<shm_settings>(found->offset);
  EXPECT_EQ(settings->receive_buffer, 12345U);
  EXPECT_EQ(settings->networks[0].bits, 104);
}

TEST(Segment, ClientCannotWriteTheDaemonSegment) {
  const auto segment = AppSegment::create(small());
  EXPECT_FALSE(Map(segment->daemon_fd(), segment->daemon_size(), PROT_READ | PROT_WRITE).ok());
  const Map map(segment->daemon_fd(), segment->daemon_size(), PROT_READ);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(mprotect(map.at<void>(0), segment->daemon_size(), PROT_READ | PROT_WRITE), -1);
  const char byte = 1;
  EXPECT_EQ(pwrite(segment->daemon_fd(), &byte, 1, 0), -1);
  EXPECT_EQ(fallocate(segment->daemon_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
            -1);
  const std::string path = "/proc/self/fd/" + std::to_string(segment->daemon_fd());
  const int again = open(path.c_str(), O_RDWR | O_CLOEXEC);
  EXPECT_FALSE(Map(again, segment->daemon_size(), PROT_READ | PROT_WRITE).ok());
  EXPECT_EQ(ftruncate(again, 0), -1);
  close(again);
}

TEST(Segment, SizesAreSealed) {
  const auto segment = AppSegment::create(small());
  for (const int fd : {segment->daemon_fd(), segment->client_fd()}) {
    EXPECT_EQ(ftruncate(fd, 0), -1);
    EXPECT_EQ(ftruncate(fd, 1 << 30), -1);
    EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_TRUE(Map(segment->client_fd(), segment->client_size(), PROT_READ | PROT_WRITE).ok());
}

TEST(Segment, RefusesWhatDoesNotFit) {
  const auto refused = [](auto change) {
    SegmentOptions o = small();
    change(o);
    EXPECT_THROW((void)AppSegment::create(o), std::invalid_argument);
  };
  refused([](SegmentOptions& o) { o.channels = 0; });
  refused([](SegmentOptions& o) { o.channels = SHM_MAX_CHANNELS + 1; });
  refused([](SegmentOptions& o) { o.slots = 60; });
  refused([](SegmentOptions& o) { o.client_slots = 65; });
  refused([](SegmentOptions& o) { o.command_entries = 100; });
  refused([](SegmentOptions& o) { o.event_entries = 0; });
  refused([](SegmentOptions& o) { o.rx_pool_bytes = 100000; });
  refused([](SegmentOptions& o) { o.tx_pool_bytes = 0; });
}

// The client shares no open file description with the daemon: what it does to the flags of its ends
// does not make the daemon block.
TEST(Segment, FlagsOfTheClientsEndsAreItsOwn) {
  const auto segment = AppSegment::create(small());
  const Channel channel(*segment, 0);
  for (const int theirs : {segment->worker_doorbell(0), segment->client_doorbell(0)}) {
    ASSERT_EQ(fcntl(theirs, F_SETFL, O_RDWR | O_NONBLOCK), 0);
    const std::vector<char> junk(1 << 20);
    while (write(theirs, junk.data(), junk.size()) > 0) continue;  // full
    ASSERT_EQ(fcntl(theirs, F_SETFL, O_RDWR), 0);                  // blocking
  }
  const uint64_t one = 1;
  EXPECT_EQ(write(channel.client_doorbell_fd(), &one, sizeof one), -1);
  EXPECT_EQ(errno, EAGAIN);
  char bytes[4096];
  while (read(channel.worker_doorbell_fd(), bytes, sizeof bytes) > 0) continue;
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Segment, DoorbellsWakeTheOtherSide) {
  const auto segment = AppSegment::create(small());
  const Channel channel(*segment, 1);
  const uint64_t one = 1;
  pollfd worker{channel.worker_doorbell_fd(), POLLIN, 0};
  pollfd client{segment->client_doorbell(1), POLLIN, 0};
  EXPECT_EQ(poll(&worker, 1, 0), 0);
  EXPECT_EQ(write(segment->worker_doorbell(1), &one, sizeof one), 8);
  EXPECT_EQ(poll(&worker, 1, 0), 1);
  EXPECT_EQ(poll(&client, 1, 0), 0);
  EXPECT_EQ(write(channel.client_doorbell_fd(), &one, sizeof one), 8);
  EXPECT_EQ(poll(&client, 1, 0), 1);
}

TEST(Segment, StateReachesTheClientWithItsReason) {
  const auto segment = AppSegment::create(small());
  const Map map(segment->daemon_fd(), segment->daemon_size(), PROT_READ);
  segment->set_state(SHM_STATE_EVICTED, std::string(200, 'r'));
  const auto* h = map.at<shm_header>(0);
  EXPECT_EQ(h->state, static_cast<uint32_t>(SHM_STATE_EVICTED));
  EXPECT_EQ(std::string(h->state_reason), std::string(63, 'r'));
  for (uint32_t c = 0; c < 2; ++c) {
    pollfd client{segment->client_doorbell(c), POLLIN, 0};
    EXPECT_EQ(poll(&client, 1, 0), 1);
  }
}

}  // namespace
}  // namespace postern::test
