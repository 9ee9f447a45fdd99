// Link-layer addresses of the stations next to us, for ARP (RFC 826, 1122 2.3.2) and, with the same
// keys and states, for NDP (RFC 4861 7.3). Pure: it asks for probes and reports what settled; the
// stack builds the packets.
//
// Life of an entry
//
//   resolve()           incomplete: probes are due every `retry`, `probes` of them
//   answer              reachable for `reachable`, then stale
//   use while stale     probe: the known address is used on while `probes` unicast probes ask
//   no answer           failed: refused for `retry`, then resolve() begins anew
//
// Bounded against floods: entries learned from a stranger's request displace only such entries;
// unanswered resolutions take at most a quarter of the table, packets held a fixed pool of buffers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/hash.h"
#include "base/time.h"
#include "wire/packet.h"

namespace postern {

struct NeighborOptions {
  Duration reachable = 30s;
  Duration retry = 1s;
  uint8_t probes = 3;
  uint32_t entries = 4096;
  uint8_t queue = 3;           // frames held per unresolved neighbor
  uint32_t held_frames = 256;  // in all
  uint32_t frame_size = 2048;  // bytes per held frame
  HashSecret secret{};
};

enum class NeighborState : uint8_t { free, incomplete, reachable, stale, probe, failed, permanent };

// Names an entry for as long as it describes the same neighbor.
struct NeighborHandle {
  uint32_t index = UINT32_MAX;
  uint32_t generation = 0;
  friend bool operator==(const NeighborHandle&, const NeighborHandle&) = default;
};

class NeighborTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  explicit NeighborTable(const NeighborOptions& options);

  // What routers say of a link, for its IPv6 neighbors (RFC 4861 6.3.4); 0: not said. Room for the
  // interfaces is made before the worker runs.
  void reserve_interfaces(size_t count) { times_.resize(1 + count, times_.front()); }
  void set_times(uint16_t interface, Duration reachable, Duration retry) noexcept;

  // ---- sending ----

  enum class Resolution : uint8_t {
    resolved,  // mac() is valid
    pending,   // being resolved: hold() the frame or wait for settled()
    failed,    // does not answer; refused until `retry` has passed
    full,      // no entry to be had
  };
  // Finds or makes the entry and starts or renews resolution where needed. O(1).
  Resolution resolve(const IpAddress& address, uint16_t interface, Time now,
                     NeighborHandle* out) noexcept;
  // The same for an entry resolved before; `pending` with a foreign generation is never returned:
  // a handle that is out of date gives `full` and the caller resolves by address.
  Resolution resolve(NeighborHandle handle, Time now) noexcept;
  [[nodiscard]] const MacAddress& mac(NeighborHandle handle) const noexcept {
    return entries_[handle.index].mac;
  }
  // Handles given out so far are out of date: routes have changed.
  void forget_handles() noexcept;
  // Keeps a copy of a frame whose destination MAC is still to be filled in. The oldest frame of the
  // same neighbor is displaced when its queue or the pool is full: true if a frame was lost.
  bool hold(NeighborHandle handle, const TxFrame& frame) noexcept;

  // ---- what the stack has to do ----

  struct Probe {
    IpAddress address;
    MacAddress mac;  // zero: broadcast (or solicited-node multicast)
    uint16_t interface = 0;
  };
  // The next probe due, or false.
  bool next_probe(Probe* out) noexcept;
  // Next entry whose resolution ended in either way, for those who wait; false if none.
  bool next_settled(NeighborHandle* out, bool* reachable) noexcept;
  // Next held frame whose neighbor is resolved, with the MAC filled in; valid until the next call.
  bool next_released(TxFrame* out) noexcept;
  [[nodiscard]] bool has_work() const noexcept {
    return probes_.head != kNone || settled_.head != kNone || released_head_ != kNone;
  }
  // Repeats or gives up what is due.
  void advance(Time now) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept {
    return pending_.head == kNone ? kNever : entries_[pending_.head].deadline;
  }
  // Next held frame that is lost because resolution failed; valid until the next call, which gives
  // its place back.
  bool next_failed(TxFrame* out) noexcept;

  // ---- learning ----

  // A solicited answer, or any ARP packet of a station that is in the table already. `solicited`:
  // it proves that the station hears us.
  void update(const IpAddress& address, uint16_t interface, const MacAddress& mac, bool solicited,
              Time now) noexcept;
  // A neighbor advertisement about the station (RFC 4861 7.2.5); `mac` nullptr: it names none.
  // False: the station is not in the table, or the message tells nothing. `solicited` counts only
  // while we are asking.
  bool advertise(const IpAddress& address, uint16_t interface, const MacAddress* mac,
                 bool solicited, bool override_known, Time now) noexcept;
  // A station asked for us: worth remembering since we are about to answer.
  void learn(const IpAddress& address, uint16_t interface, const MacAddress& mac,
             Time now) noexcept;
  // The upper layer made progress with this neighbor (RFC 4861 7.3.1).
  void confirm(NeighborHandle handle, Time now) noexcept {
    Entry& entry = entries_[handle.index];
    if (entry.generation == handle.generation && entry.state == NeighborState::reachable) {
      entry.confirmed = now;
    }
  }
  void add_permanent(const IpAddress& address, uint16_t interface, const MacAddress& mac) noexcept;

  // ---- looking in ----

  struct View {
    IpAddress address;
    MacAddress mac;
    uint16_t interface = 0;
    NeighborState state = NeighborState::free;
    Time confirmed{};
  };
  [[nodiscard]] uint32_t capacity() const noexcept {
    return static_cast<uint32_t>(entries_.size());
  }
  [[nodiscard]] View view(uint32_t index, Time now) const noexcept;
  [[nodiscard]] uint32_t size() const noexcept { return used_; }
  [[nodiscard]] uint32_t held() const noexcept { return held_used_; }

 private:
  struct Links {
    uint32_t previous = kNone;
    uint32_t next = kNone;
  };
  struct List {
    uint32_t head = kNone;
    uint32_t tail = kNone;
  };
  struct Entry {
    IpAddress address;
    MacAddress mac;
    uint16_t interface = 0;
    NeighborState state = NeighborState::free;
    bool learned_only = false;  // never used by us: the first to be displaced
    bool settled_queued = false;
    bool probe_queued = false;
    uint8_t attempts = 0;
    uint8_t held = 0;
    uint16_t times = 0;  // of times_
    uint32_t generation = 1;
    uint32_t hash_next = kNone;
    uint32_t held_head = kNone;
    uint32_t held_tail = kNone;
    Links age;      // age_ or learned_: least recently made or renewed first
    Links pending;  // pending_, by deadline
    uint32_t probe_next = kNone;
    uint32_t settled_next = kNone;
    Time confirmed{};
    Time deadline{};
  };
  struct Held {
    TxFrame frame;
    uint32_t next = kNone;
  };

  [[nodiscard]] uint32_t bucket_of(const IpAddress& address, uint16_t interface) const noexcept;
  [[nodiscard]] uint32_t find(const IpAddress& address, uint16_t interface) const noexcept;
  uint32_t create(const IpAddress& address, uint16_t interface, bool learned_only) noexcept;
  [[nodiscard]] uint32_t victim(bool learned_only) const noexcept;
  void erase(uint32_t index) noexcept;
  Resolution use(uint32_t index, Time now) noexcept;
  void begin(uint32_t index, NeighborState state, Time now) noexcept;
  void settle(uint32_t index, NeighborState state) noexcept;
  void expire(uint32_t index, Time now) noexcept;
  void doubt(uint32_t index, Time now) noexcept;
  void set_mac(uint32_t index, const MacAddress& mac, bool reachable, Time now) noexcept;
  void await(uint32_t index) noexcept;
  void queue_probe(uint32_t index) noexcept;
  void drop_held(uint32_t index) noexcept;
  void release_held(uint32_t index) noexcept;
  void free_held(uint32_t held) noexcept;
  void push_back(List& list, Links Entry::*links, uint32_t index) noexcept;
  void unlink(List& list, Links Entry::*links, uint32_t index) noexcept;
  List& age_list(const Entry& entry) noexcept { return entry.learned_only ? learned_ : age_; }

  struct Times {
    Duration reachable;
    Duration retry;
  };
  [[nodiscard]] const Times& times_of(const Entry& entry) const noexcept {
    return times_[entry.times];
  }

  NeighborOptions options_;
  std::vector<Times> times_;  // the options', then by interface for IPv6
  KeyedHash hash_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> buckets_;
  std::vector<Held> held_;
  std::unique_ptr<std::byte[]> held_bytes_;
  uint32_t bucket_mask_ = 0;
  uint32_t free_head_ = kNone;      // through hash_next
  uint32_t held_free_ = kNone;      // through Held::next
  uint32_t released_head_ = kNone;  // held frames ready to go, through Held::next
  uint32_t released_tail_ = kNone;
  uint32_t lent_ = kNone;  // held frame given out by next_released()
  uint32_t used_ = 0;
  uint32_t incomplete_ = 0;
  uint32_t held_used_ = 0;
  uint32_t failed_head_ = kNone;  // held frames that are lost, through Held::next
  uint32_t failed_tail_ = kNone;
  uint32_t failed_lent_ = kNone;  // of them, given out by next_failed()
  List age_, learned_, pending_, probes_, settled_;
};

[[nodiscard]] const char* neighbor_state_name(NeighborState state) noexcept;

}  // namespace postern
