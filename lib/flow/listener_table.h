// ListenerTable: who answers for a local port. Listening TCP sockets and bound UDP sockets of one
// worker. Each worker holds its own copy, changed by its owner through the worker's mailbox, so
// lookups take no lock and share no cache line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/address.h"
#include "base/hash.h"

namespace postern {

inline constexpr uint32_t kNoListener = UINT32_MAX;

// Not thread-safe: one owner. After construction nothing allocates.
//
// Wildcards: "0.0.0.0" takes every IPv4 destination; "::" every IPv6 destination, and IPv4 as well
// unless v6_only (RFC 3493 5.3). A lookup prefers the exact address, then the wildcard of the
// destination's own family, then a dual-stack "::".
class ListenerTable {
 public:
  // Room for max_entries sockets (at least 1).
  ListenerTable(uint32_t max_entries, const HashSecret& secret);

  // local.address as bound; local.port != 0; v6_only matters for "::" only. False: an entry with
  // the same protocol, address and port is present, or the table is full. Whether "::" and
  // "0.0.0.0" on one port may stand side by side is the caller's policy: here they may.
  [[nodiscard]] bool insert(uint8_t protocol, const Endpoint& local, bool v6_only,
                            uint32_t value) noexcept;
  // Another value for the address of an entry. False: no such entry.
  bool replace(uint8_t protocol, const Endpoint& local, uint32_t value) noexcept;
  // False: no such entry.
  bool erase(uint8_t protocol, const Endpoint& local) noexcept;

  // The value that answers for a packet's destination, or kNoListener.
  [[nodiscard]] uint32_t find(uint8_t protocol, const IpAddress& destination,
                              uint16_t port) const noexcept;
  // The value bound to exactly this address (which may be a wildcard), or kNoListener.
  [[nodiscard]] uint32_t find_exact(uint8_t protocol, const Endpoint& local) const noexcept;

  [[nodiscard]] uint32_t size() const noexcept { return size_; }
  [[nodiscard]] uint32_t capacity() const noexcept { return max_entries_; }

 private:
  struct Key {
    IpAddress address;
    uint32_t port = 0;
    uint32_t protocol = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Entry {
    Key key;
    uint32_t value = kNoListener;  // kNoListener: free
    bool v6_only = false;
  };
  [[nodiscard]] size_t home(const Key& key) const noexcept { return hash_(key) & mask_; }
  // The slot of a key, or the free slot where it would go.
  [[nodiscard]] size_t slot_of(const Key& key) const noexcept;
  [[nodiscard]] const Entry& lookup(const Key& key) const noexcept { return slots_[slot_of(key)]; }

  KeyedHash hash_;
  std::vector<Entry> slots_;  // linear probing, at most half full
  size_t mask_;
  uint32_t max_entries_;
  uint32_t size_ = 0;
};

}  // namespace postern
