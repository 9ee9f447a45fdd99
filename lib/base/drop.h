// The named reasons for dropping a packet. See drops.def for the table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postern {

enum class Drop : uint8_t {
  none = 0,  // not dropped
#define DROP(name, help) name,
#include "base/drops.def"
#undef DROP
  kCount
};

inline constexpr size_t kDropCount = static_cast<size_t>(Drop::kCount);

struct DropInfo {
  std::string_view name;
  std::string_view help;
};

inline constexpr std::array<DropInfo, kDropCount> kDropInfo{{
    {"none", "not dropped"},
#define DROP(name, help) {#name, help},
#include "base/drops.def"
#undef DROP
}};

constexpr std::string_view drop_name(Drop d) { return kDropInfo[static_cast<size_t>(d)].name; }

}  // namespace postern
