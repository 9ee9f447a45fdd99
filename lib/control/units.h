// Quantities as the configuration writes them: a whole number with its unit, without a space.
// nullopt: not of that form, or too large for the type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace postern {

// Decimal digits alone; no sign, no leading zero, no other base.
std::optional<uint64_t> parse_integer(std::string_view text);
// "200ms": ns, us, ms, s, m, h.
std::optional<Duration> parse_duration(std::string_view text);
// "64MiB": B, KiB, MiB, GiB, TiB.
std::optional<uint64_t> parse_size(std::string_view text);
// "5%", "0.25%", 0 to 100: as a probability 0..1.
std::optional<double> parse_percent(std::string_view text);

// The largest unit that leaves a whole number: "200ms", "64MiB".
std::string format_duration(Duration value);
std::string format_size(uint64_t bytes);

// Number of letters to insert, delete or replace to turn one word into the other.
size_t edit_distance(std::string_view a, std::string_view b);

// The candidate that a person most likely meant by `word`: one that begins with it, or the one with
// the fewest wrong letters; empty if none is near.
template <class Range>
std::string_view nearest(std::string_view word, const Range& candidates) {
  std::string_view best;
  size_t best_distance = word.size() / 3 + 2;
  for (const std::string_view candidate : candidates) {
    if (word.size() > 2 && candidate.starts_with(word)) return candidate;
    const size_t distance = edit_distance(word, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

}  // namespace postern
