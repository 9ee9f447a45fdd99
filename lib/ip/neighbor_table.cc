#include "ip/neighbor_table.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace postern {

NeighborTable::NeighborTable(const NeighborOptions& options)
    : options_(options), times_{{options.reachable, options.retry}}, hash_(options.secret) {
  const uint32_t count = std::max<uint32_t>(options.entries, 4);
  entries_.resize(count);
  buckets_.assign(std::bit_ceil(count), kNone);
  bucket_mask_ = static_cast<uint32_t>(buckets_.size() - 1);
  for (uint32_t i = count; i-- > 0;) {
    entries_[i].hash_next = free_head_;
    free_head_ = i;
  }
  held_.resize(options.held_frames);
  held_bytes_ = std::make_unique<std::byte[]>(size_t{options.held_frames} * options.frame_size);
  for (uint32_t i = options.held_frames; i-- > 0;) {
    held_[i].next = held_free_;
    held_free_ = i;
  }
}

void NeighborTable::set_times(uint16_t interface, Duration reachable, Duration retry) noexcept {
  if (interface + size_t{1} >= times_.size()) return;
  if (reachable != Duration{}) times_[interface + 1].reachable = reachable;
  if (retry != Duration{}) times_[interface + 1].retry = retry;
}

// ---- lists ----

void NeighborTable::push_back(List& list, Links Entry::*links, uint32_t index) noexcept {
  entries_[index].*links = {list.tail, kNone};
  (list.tail == kNone ? list.head : (entries_[list.tail].*links).next) = index;
  list.tail = index;
}

void NeighborTable::unlink(List& list, Links Entry::*links, uint32_t index) noexcept {
  const Links l = entries_[index].*links;
  (l.previous == kNone ? list.head : (entries_[l.previous].*links).next) = l.next;
  (l.next == kNone ? list.tail : (entries_[l.next].*links).previous) = l.previous;
  entries_[index].*links = {};
}

// ---- table ----

uint32_t NeighborTable::bucket_of(const IpAddress& address, uint16_t interface) const noexcept {
  const struct {
    IpAddress address;
    uint64_t interface;
  } key{address, interface};
  return static_cast<uint32_t>(hash_(key)) & bucket_mask_;
}

uint32_t NeighborTable::find(const IpAddress& address, uint16_t interface) const noexcept {
  uint32_t i = buckets_[bucket_of(address, interface)];
  while (i != kNone && (entries_[i].address != address || entries_[i].interface != interface)) {
    i = entries_[i].hash_next;
  }
  return i;
}

// The entry to displace, kNone if all are needed. A short look suffices: lists are in age order.
uint32_t NeighborTable::victim(bool learned_only) const noexcept {
  constexpr int kLook = 32;
  if (learned_only) return learned_.head;
  if (learned_.head != kNone) return learned_.head;
  uint32_t i = age_.head;
  for (int n = 0; i != kNone && n < kLook; ++n, i = entries_[i].age.next) {
    const NeighborState s = entries_[i].state;
    if (s == NeighborState::stale || s == NeighborState::failed || s == NeighborState::reachable) {
      return i;
    }
  }
  return kNone;
}

uint32_t NeighborTable::create(const IpAddress& address, uint16_t interface,
                               bool learned_only) noexcept {
  // Strangers' requests leave half of the table to the neighbors that we asked for.
  const bool limited = learned_only && used_ >= entries_.size() / 2;
  if (free_head_ == kNone || limited) {
    const uint32_t old = victim(learned_only);
    if (old == kNone) return kNone;
    erase(old);
  }
  const uint32_t index = free_head_;
  Entry& entry = entries_[index];
  free_head_ = entry.hash_next;
  entry.address = address;
  entry.interface = interface;
  entry.learned_only = learned_only;
  const bool own_times = !address.is_v4() && interface + size_t{1} < times_.size();
  entry.times = own_times ? static_cast<uint16_t>(interface + 1) : uint16_t{0};
  uint32_t& bucket = buckets_[bucket_of(address, interface)];
  entry.hash_next = bucket;
  bucket = index;
  push_back(age_list(entry), &Entry::age, index);
  ++used_;
  return index;
}

void NeighborTable::erase(uint32_t index) noexcept {
  Entry& entry = entries_[index];
  uint32_t* link = &buckets_[bucket_of(entry.address, entry.interface)];
  while (*link != index) link = &entries_[*link].hash_next;
  *link = entry.hash_next;
  drop_held(index);
  unlink(age_list(entry), &Entry::age, index);
  if (entry.state == NeighborState::incomplete || entry.state == NeighborState::probe) {
    unlink(pending_, &Entry::pending, index);
  }
  // Still in probes_ or settled_: the generation tells next_probe() and next_settled().
  const bool probe_queued = entry.probe_queued, settled_queued = entry.settled_queued;
  const uint32_t probe_next = entry.probe_next, settled_next = entry.settled_next;
  const uint32_t generation = entry.generation + 1;
  entry = Entry{};
  entry.generation = generation;
  entry.probe_queued = probe_queued;
  entry.settled_queued = settled_queued;
  entry.probe_next = probe_next;
  entry.settled_next = settled_next;
  entry.hash_next = free_head_;
  free_head_ = index;
  --used_;
}

// ---- resolution ----

NeighborTable::Resolution NeighborTable::resolve(const IpAddress& address, uint16_t interface,
                                                 Time now, NeighborHandle* out) noexcept {
  uint32_t index = find(address, interface);
  if (index == kNone) {
    if (incomplete_ >= std::max<size_t>(1, entries_.size() / 4)) return Resolution::full;
    index = create(address, interface, false);
    if (index == kNone) return Resolution::full;
    begin(index, NeighborState::incomplete, now);
  }
  *out = {index, entries_[index].generation};
  return use(index, now);
}

NeighborTable::Resolution NeighborTable::resolve(NeighborHandle handle, Time now) noexcept {
  if (handle.index >= entries_.size() || entries_[handle.index].generation != handle.generation) {
    return Resolution::full;
  }
  return use(handle.index, now);
}

NeighborTable::Resolution NeighborTable::use(uint32_t index, Time now) noexcept {
  Entry& entry = entries_[index];
  if (entry.learned_only) {
    unlink(learned_, &Entry::age, index);
    entry.learned_only = false;
    push_back(age_, &Entry::age, index);
  }
  switch (entry.state) {
    case NeighborState::reachable:
      if (now - entry.confirmed <= times_of(entry).reachable) return Resolution::resolved;
      [[fallthrough]];
    case NeighborState::stale:
      begin(index, NeighborState::probe, now);
      return Resolution::resolved;
    case NeighborState::probe:
    case NeighborState::permanent:
      return Resolution::resolved;
    case NeighborState::failed:
      if (now < entry.deadline) return Resolution::failed;
      if (incomplete_ >= std::max<size_t>(1, entries_.size() / 4)) return Resolution::full;
      begin(index, NeighborState::incomplete, now);
      return Resolution::pending;
    default:
      return Resolution::pending;
  }
}

void NeighborTable::forget_handles() noexcept {
  for (Entry& entry : entries_) ++entry.generation;
}

void NeighborTable::begin(uint32_t index, NeighborState state, Time now) noexcept {
  Entry& entry = entries_[index];
  entry.state = state;
  entry.attempts = 1;
  entry.deadline = now + times_of(entry).retry;
  if (state == NeighborState::incomplete) ++incomplete_;
  unlink(age_, &Entry::age, index);  // pending entries lie at the young end, out of victim()'s way
  push_back(age_, &Entry::age, index);
  await(index);
  queue_probe(index);
}

// Into its place by deadline: at the end, unless links wait for different times.
void NeighborTable::await(uint32_t index) noexcept {
  const Time deadline = entries_[index].deadline;
  uint32_t before = pending_.tail;
  while (before != kNone && entries_[before].deadline > deadline) {
    before = entries_[before].pending.previous;
  }
  if (before == pending_.tail) return push_back(pending_, &Entry::pending, index);
  uint32_t& next = before == kNone ? pending_.head : entries_[before].pending.next;
  entries_[index].pending = {before, next};
  entries_[next].pending.previous = index;
  next = index;
}

void NeighborTable::queue_probe(uint32_t index) noexcept {
  Entry& entry = entries_[index];
  if (entry.probe_queued) return;
  entry.probe_queued = true;
  entry.probe_next = kNone;
  (probes_.tail == kNone ? probes_.head : entries_[probes_.tail].probe_next) = index;
  probes_.tail = index;
}

bool NeighborTable::next_probe(Probe* out) noexcept {
  while (probes_.head != kNone) {
    Entry& entry = entries_[probes_.head];
    probes_.head = entry.probe_next;
    if (probes_.head == kNone) probes_.tail = kNone;
    entry.probe_queued = false;
    const bool asking = entry.state == NeighborState::incomplete;
    if (!asking && entry.state != NeighborState::probe) continue;  // settled meanwhile
    *out = {entry.address, asking ? MacAddress{} : entry.mac, entry.interface};
    return true;
  }
  return false;
}

void NeighborTable::settle(uint32_t index, NeighborState state) noexcept {
  Entry& entry = entries_[index];
  if (entry.state == NeighborState::incomplete || entry.state == NeighborState::probe) {
    unlink(pending_, &Entry::pending, index);
  }
  const bool waited = entry.state == NeighborState::incomplete;
  entry.state = state;
  if (waited) --incomplete_;
  if (!waited && state != NeighborState::failed) return;
  if (entry.settled_queued) return;
  entry.settled_queued = true;
  entry.settled_next = kNone;
  (settled_.tail == kNone ? settled_.head : entries_[settled_.tail].settled_next) = index;
  settled_.tail = index;
}

bool NeighborTable::next_settled(NeighborHandle* out, bool* reachable) noexcept {
  while (settled_.head != kNone) {
    const uint32_t index = settled_.head;
    Entry& entry = entries_[index];
    settled_.head = entry.settled_next;
    if (settled_.head == kNone) settled_.tail = kNone;
    entry.settled_queued = false;
    if (entry.state == NeighborState::incomplete) continue;  // asked anew: it will settle again
    *out = {index, entry.generation};
    *reachable = entry.state != NeighborState::failed && entry.state != NeighborState::free;
    return true;
  }
  return false;
}

void NeighborTable::advance(Time now) noexcept {
  while (pending_.head != kNone && entries_[pending_.head].deadline <= now) {
    expire(pending_.head, now);
  }
}

void NeighborTable::expire(uint32_t index, Time now) noexcept {
  Entry& entry = entries_[index];
  if (entry.attempts < options_.probes) {
    ++entry.attempts;
    entry.deadline = now + times_of(entry).retry;
    unlink(pending_, &Entry::pending, index);
    await(index);
    queue_probe(index);
    return;
  }
  settle(index, NeighborState::failed);
  entry.deadline = now + times_of(entry).retry;
  drop_held(index);
}

// ---- learning ----

void NeighborTable::set_mac(uint32_t index, const MacAddress& mac, bool reachable,
                            Time now) noexcept {
  Entry& entry = entries_[index];
  if (entry.state == NeighborState::permanent) return;
  const bool changed = entry.mac != mac;
  const NeighborState before = entry.state;
  entry.mac = mac;
  if (reachable) {
    settle(index, NeighborState::reachable);
    entry.confirmed = now;
  } else if (changed || before == NeighborState::incomplete || before == NeighborState::failed ||
             before == NeighborState::free) {
    settle(index, NeighborState::stale);
    entry.confirmed = now - times_of(entry).reachable;
  }
  unlink(age_list(entry), &Entry::age, index);
  push_back(age_list(entry), &Entry::age, index);
  release_held(index);
}

void NeighborTable::update(const IpAddress& address, uint16_t interface, const MacAddress& mac,
                           bool solicited, Time now) noexcept {
  const uint32_t index = find(address, interface);
  if (index == kNone) return;
  // RFC 4861 7.2.5 in ARP's terms: an answer counts as solicited only while we are asking.
  const NeighborState s = entries_[index].state;
  const bool asked = s == NeighborState::incomplete || s == NeighborState::probe;
  set_mac(index, mac, solicited && asked, now);
}

bool NeighborTable::advertise(const IpAddress& address, uint16_t interface, const MacAddress* mac,
                              bool solicited, bool override_known, Time now) noexcept {
  const uint32_t index = find(address, interface);
  if (index == kNone) return false;
  const NeighborState s = entries_[index].state;
  const bool asked = s == NeighborState::incomplete || s == NeighborState::probe;
  const bool unknown = s == NeighborState::incomplete || s == NeighborState::failed;
  if (mac == nullptr && unknown) return false;
  const MacAddress told = mac != nullptr ? *mac : entries_[index].mac;
  if (!unknown && !override_known && told != entries_[index].mac) {
    doubt(index, now);
    return false;
  }
  set_mac(index, told, solicited && asked, now);
  return true;
}

// Somebody contradicts what we know without claiming to know better: ask at the next use.
void NeighborTable::doubt(uint32_t index, Time now) noexcept {
  Entry& entry = entries_[index];
  if (entry.state != NeighborState::reachable) return;
  entry.state = NeighborState::stale;
  entry.confirmed = now - times_of(entry).reachable;
}

void NeighborTable::learn(const IpAddress& address, uint16_t interface, const MacAddress& mac,
                          Time now) noexcept {
  uint32_t index = find(address, interface);
  if (index == kNone) index = create(address, interface, true);
  if (index != kNone) set_mac(index, mac, false, now);
}

void NeighborTable::add_permanent(const IpAddress& address, uint16_t interface,
                                  const MacAddress& mac) noexcept {
  uint32_t index = find(address, interface);
  if (index == kNone) index = create(address, interface, false);
  if (index == kNone) return;
  Entry& entry = entries_[index];
  if (entry.state != NeighborState::permanent) {
    settle(index, NeighborState::permanent);
    unlink(age_list(entry), &Entry::age, index);  // never displaced
  }
  entry.mac = mac;
  release_held(index);
}

// ---- held frames ----

bool NeighborTable::hold(NeighborHandle handle, const TxFrame& frame) noexcept {
  Entry& entry = entries_[handle.index];
  bool lost = false;
  if (entry.held >= options_.queue || (held_free_ == kNone && entry.held > 0)) {
    const uint32_t oldest = entry.held_head;
    entry.held_head = held_[oldest].next;
    if (entry.held_head == kNone) entry.held_tail = kNone;
    --entry.held;
    free_held(oldest);
    lost = true;
  }
  if (held_free_ == kNone || options_.queue == 0 || frame.length > options_.frame_size) return true;
  const uint32_t index = held_free_;
  Held& held = held_[index];
  held_free_ = held.next;
  ++held_used_;
  held.frame = frame;
  held.frame.data = held_bytes_.get() + size_t{index} * options_.frame_size;
  std::memcpy(held.frame.data, frame.data, frame.length);
  held.next = kNone;
  (entry.held_tail == kNone ? entry.held_head : held_[entry.held_tail].next) = index;
  entry.held_tail = index;
  ++entry.held;
  return lost;
}

void NeighborTable::free_held(uint32_t index) noexcept {
  held_[index].next = held_free_;
  held_free_ = index;
  --held_used_;
}

void NeighborTable::drop_held(uint32_t index) noexcept {
  Entry& entry = entries_[index];
  while (entry.held_head != kNone) {
    const uint32_t held = entry.held_head;
    entry.held_head = held_[held].next;
    held_[held].next = kNone;
    (failed_tail_ == kNone ? failed_head_ : held_[failed_tail_].next) = held;
    failed_tail_ = held;
  }
  entry.held_tail = kNone;
  entry.held = 0;
}

void NeighborTable::release_held(uint32_t index) noexcept {
  Entry& entry = entries_[index];
  while (entry.held_head != kNone) {
    const uint32_t held = entry.held_head;
    entry.held_head = held_[held].next;
    held_[held].next = kNone;
    std::memcpy(held_[held].frame.data, entry.mac.bytes.data(), entry.mac.bytes.size());
    (released_tail_ == kNone ? released_head_ : held_[released_tail_].next) = held;
    released_tail_ = held;
  }
  entry.held_tail = kNone;
  entry.held = 0;
}

bool NeighborTable::next_released(TxFrame* out) noexcept {
  if (lent_ != kNone) free_held(lent_);
  lent_ = released_head_;
  if (lent_ == kNone) return false;
  released_head_ = held_[lent_].next;
  if (released_head_ == kNone) released_tail_ = kNone;
  *out = held_[lent_].frame;
  return true;
}

bool NeighborTable::next_failed(TxFrame* out) noexcept {
  if (failed_lent_ != kNone) free_held(failed_lent_);
  failed_lent_ = failed_head_;
  if (failed_lent_ == kNone) return false;
  failed_head_ = held_[failed_lent_].next;
  if (failed_head_ == kNone) failed_tail_ = kNone;
  *out = held_[failed_lent_].frame;
  return true;
}

// ---- looking in ----

NeighborTable::View NeighborTable::view(uint32_t index, Time now) const noexcept {
  const Entry& entry = entries_[index];
  View v{entry.address, entry.mac, entry.interface, entry.state, entry.confirmed};
  if (v.state == NeighborState::reachable && now - entry.confirmed > times_of(entry).reachable) {
    v.state = NeighborState::stale;
  }
  return v;
}

const char* neighbor_state_name(NeighborState state) noexcept {
  switch (state) {
    case NeighborState::incomplete:
      return "incomplete";
    case NeighborState::reachable:
      return "reachable";
    case NeighborState::stale:
      return "stale";
    case NeighborState::probe:
      return "probe";
    case NeighborState::failed:
      return "failed";
    case NeighborState::permanent:
      return "permanent";
    default:
      return "free";
  }
}

}  // namespace postern
