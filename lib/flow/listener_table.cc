#include "flow/listener_table.h"

#include <bit>
#include <cassert>

namespace postern {

ListenerTable::ListenerTable(uint32_t max_entries, const HashSecret& secret)
    : hash_(secret),
      slots_(std::bit_ceil(size_t{max_entries} * 2)),
      mask_(slots_.size() - 1),
      max_entries_(max_entries) {
  assert(max_entries > 0);
}

size_t ListenerTable::slot_of(const Key& key) const noexcept {
  size_t i = home(key);
  while (slots_[i].value != kNoListener && !(slots_[i].key == key)) i = (i + 1) & mask_;
  return i;
}

bool ListenerTable::insert(uint8_t protocol, const Endpoint& local, bool v6_only,
                           uint32_t value) noexcept {
  assert(value != kNoListener && local.port != 0);
  const Key key{local.address, local.port, protocol};
  Entry& entry = slots_[slot_of(key)];
  if (entry.value != kNoListener || size_ == max_entries_) return false;
  entry = {key, value, v6_only};
  ++size_;
  return true;
}

bool ListenerTable::replace(uint8_t protocol, const Endpoint& local, uint32_t value) noexcept {
  assert(value != kNoListener);
  Entry& entry = slots_[slot_of({local.address, local.port, protocol})];
  if (entry.value == kNoListener) return false;
  entry.value = value;
  return true;
}

bool ListenerTable::erase(uint8_t protocol, const Endpoint& local) noexcept {
  size_t hole = slot_of({local.address, local.port, protocol});
  if (slots_[hole].value == kNoListener) return false;
  --size_;
  // Backward shift: whoever probed across the hole moves into it, so that no tombstone is needed.
  for (size_t i = (hole + 1) & mask_; slots_[i].value != kNoListener; i = (i + 1) & mask_) {
    const size_t distance = (i - home(slots_[i].key)) & mask_;
    if (distance < ((i - hole) & mask_)) continue;
    slots_[hole] = slots_[i];
    hole = i;
  }
  slots_[hole] = Entry{};
  return true;
}

uint32_t ListenerTable::find(uint8_t protocol, const IpAddress& destination,
                             uint16_t port) const noexcept {
  uint32_t value = lookup({destination, port, protocol}).value;
  if (value != kNoListener) return value;
  if (destination.is_v4()) {
    value = lookup({IpAddress::v4(0), port, protocol}).value;
    if (value != kNoListener) return value;
  }
  const Entry& any = lookup({IpAddress(), port, protocol});
  return destination.is_v4() && any.v6_only ? kNoListener : any.value;
}

uint32_t ListenerTable::find_exact(uint8_t protocol, const Endpoint& local) const noexcept {
  return lookup({local.address, local.port, protocol}).value;
}

}  // namespace postern
