#include "control/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <span>
#include <vector>

namespace postern {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array<Unit, 6> kTimeUnits{{{"h", 3'600'000'000'000},
                                          {"m", 60'000'000'000},
                                          {"s", 1'000'000'000},
                                          {"ms", 1'000'000},
                                          {"us", 1'000},
                                          {"ns", 1}}};

constexpr std::array<Unit, 5> kSizeUnits{{{"TiB", uint64_t{1} << 40},
                                          {"GiB", uint64_t{1} << 30},
                                          {"MiB", uint64_t{1} << 20},
                                          {"KiB", uint64_t{1} << 10},
                                          {"B", 1}}};

std::optional<uint64_t> parse_quantity(std::string_view text, std::span<const Unit> units) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = parse_integer(text.substr(0, digits));
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (text.substr(digits) != unit.name) continue;
    uint64_t value = 0;
    if (__builtin_mul_overflow(*number, unit.factor, &value)) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

std::string format_quantity(uint64_t value, std::span<const Unit> units) {
  if (value == 0) return "0" + std::string(units.back().name);
  for (const Unit& unit : units) {
    if (value % unit.factor != 0) continue;
    return std::to_string(value / unit.factor) + std::string(unit.name);
  }
  return std::to_string(value);
}

}  // namespace

std::optional<uint64_t> parse_integer(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

std::optional<Duration> parse_duration(std::string_view text) {
  const auto value = parse_quantity(text, kTimeUnits);
  if (!value || *value > static_cast<uint64_t>(Duration::max().count())) return std::nullopt;
  return Duration(static_cast<Duration::rep>(*value));
}

std::optional<uint64_t> parse_size(std::string_view text) {
  return parse_quantity(text, kSizeUnits);
}

std::optional<double> parse_percent(std::string_view text) {
  if (text.size() < 2 || text.back() != '%' || text.front() == '-') return std::nullopt;
  double value = 0;
  const char* end = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (error != std::errc{} || stop != end || !(value >= 0 && value <= 100)) return std::nullopt;
  return value / 100;
}

std::string format_duration(Duration value) {
  return format_quantity(static_cast<uint64_t>(std::max<Duration::rep>(value.count(), 0)),
                         kTimeUnits);
}

std::string format_size(uint64_t bytes) { return format_quantity(bytes, kSizeUnits); }

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace postern
