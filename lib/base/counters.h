// The counters of one worker. One writer (the worker); readers take relaxed loads of the published
// copy, so that counting itself is a plain add.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/drop.h"

namespace postern {

enum class Counter : uint8_t {
#define COUNTER(name, help) name,
#include "base/counters.def"
#undef COUNTER
  kCount
};

inline constexpr size_t kCounterCount = static_cast<size_t>(Counter::kCount);

struct CounterInfo {
  std::string_view name;
  std::string_view help;
};

inline constexpr std::array<CounterInfo, kCounterCount> kCounterInfo{{
#define COUNTER(name, help) {#name, help},
#include "base/counters.def"
#undef COUNTER
}};

// Owned by one worker; not thread-safe. The worker copies it to a published block every 256 turns.
struct Counters {
  std::array<uint64_t, kCounterCount> values{};
  std::array<uint64_t, kDropCount> drops{};

  void add(Counter c, uint64_t n = 1) { values[static_cast<size_t>(c)] += n; }
  void drop(Drop d, uint64_t n = 1) { drops[static_cast<size_t>(d)] += n; }
  [[nodiscard]] uint64_t get(Counter c) const { return values[static_cast<size_t>(c)]; }
  [[nodiscard]] uint64_t get(Drop d) const { return drops[static_cast<size_t>(d)]; }
};

}  // namespace postern
