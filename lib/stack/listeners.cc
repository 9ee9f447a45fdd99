// Who answers a SYN. Several listeners may share one address (SO_REUSEPORT): the table names the
// first of them, the others hang on it.
#include "stack/core.h"

namespace postern {

namespace {

constexpr auto kTcp = static_cast<uint8_t>(Protocol::tcp);

}  // namespace

// False: the table is full. Whether an address may be shared was decided where it was bound.
bool StackCore::enter_listener(Listener& listener, bool v6_only) noexcept {
  const uint32_t index = listeners_.index_of(&listener);
  const uint32_t first = listener_table_.find_exact(kTcp, listener.local);
  if (first == kNoListener) return listener_table_.insert(kTcp, listener.local, v6_only, index);
  listener.next_sharer = listeners_[first].next_sharer;
  listeners_[first].next_sharer = index;
  return true;
}

void StackCore::withdraw_listener(Listener& listener) noexcept {
  const uint32_t index = listeners_.index_of(&listener);
  uint32_t at = listener_table_.find_exact(kTcp, listener.local);
  if (at == index && listener.next_sharer == kNoListener) {
    listener_table_.erase(kTcp, listener.local);
  } else if (at == index) {
    listener_table_.replace(kTcp, listener.local, listener.next_sharer);
  } else {
    while (listeners_[at].next_sharer != index) at = listeners_[at].next_sharer;
    listeners_[at].next_sharer = listener.next_sharer;
  }
  listener.next_sharer = kNoListener;
}

// The highest of a keyed hash of client and listener (Thaler and Ravishankar, rendezvous hashing):
// a repeated SYN finds the same one, and when a listener comes or goes only its own share moves.
uint32_t StackCore::listener_of(const ParsedPacket& p) const noexcept {
  const uint32_t first = listener_table_.find(kTcp, p.destination, p.destination_port);
  if (first == kNoListener || listeners_[first].next_sharer == kNoListener) return first;
  FlowKey key(p.source, p.source_port, p.destination, p.destination_port, kTcp);
  uint32_t best = first;
  uint64_t highest = 0;
  for (uint32_t at = first; at != kNoListener; at = listeners_[at].next_sharer) {
    key.protocol = at;
    const uint64_t weight =
        siphash24(port_key_, std::as_bytes(std::span<const FlowKey, 1>(&key, 1)));
    if (weight >= highest) {
      highest = weight;
      best = at;
    }
  }
  return best;
}

}  // namespace postern
