// What routers said about the MTU of paths: RFC 1191, RFC 8201. One entry for each destination, and
// forgotten after ten minutes, because paths change.
#pragma once

#include <cstdint>
#include <vector>

#include "base/address.h"
#include "base/hash.h"
#include "base/time.h"

namespace postern {

inline constexpr uint32_t kLeastMtu4 = 576;   // RFC 1122 3.3.3; less is not believed
inline constexpr uint32_t kLeastMtu6 = 1280;  // RFC 8200 5; RFC 8201 4: less is not heeded

// A table of fixed size: of those destinations that fall together the oldest gives way.
class PathMtuTable {
 public:
  // entries: rounded up to a power of two.
  PathMtuTable(uint32_t entries, const HashSecret& secret);

  // The caller has seen that the message quotes a packet that we sent. A path only narrows until
  // its entry is forgotten: a larger value is ignored (RFC 8201 4). Returns what holds now.
  uint32_t narrow(const IpAddress& destination, uint32_t mtu, Time now) noexcept;

  // 0: nothing is known, the link's own MTU rules.
  [[nodiscard]] uint32_t find(const IpAddress& destination, Time now) const noexcept {
    return used_ == 0 ? 0 : search(destination, now);
  }

  struct View {
    IpAddress destination;
    uint32_t mtu = 0;
    Time expires{};
  };
  // Entries by position; mtu 0: nothing there.
  [[nodiscard]] size_t capacity() const noexcept { return entries_.size(); }
  [[nodiscard]] View view(size_t index, Time now) const noexcept;

 private:
  static constexpr uint32_t kWays = 4;
  [[nodiscard]] uint32_t search(const IpAddress& destination, Time now) const noexcept;
  [[nodiscard]] size_t set_of(const IpAddress& destination) const noexcept {
    return (hash_(destination) & mask_) * kWays;
  }

  std::vector<View> entries_;
  KeyedHash hash_;
  uint64_t mask_;
  uint32_t used_ = 0;  // ever filled
};

}  // namespace postern
