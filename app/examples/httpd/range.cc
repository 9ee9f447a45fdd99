#include "httpd/range.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace httpd {
namespace {

// Digits only; a number too large for 64 bits is past the end of any file.
std::optional<uint64_t> parse_position(std::string_view digits) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end != digits.data() + digits.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) return UINT64_MAX;
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_bytes_unit(std::string_view& header) {
  constexpr std::string_view kUnit = "bytes=";
  if (header.size() < kUnit.size()) return false;
  for (size_t i = 0; i < kUnit.size(); ++i) {
    const char c = header[i];
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (lower != kUnit[i]) return false;
  }
  header.remove_prefix(kUnit.size());
  return true;
}

// "-N": the last N bytes.
Range suffix(uint64_t count, uint64_t size) {
  if (count == 0 || size == 0) return {Range::Kind::unsatisfiable, 0, 0};
  count = std::min(count, size);
  return {Range::Kind::partial, size - count, count};
}

}  // namespace

Range parse_range(std::string_view header, uint64_t size) {
  const Range whole{Range::Kind::whole, 0, size};
  if (!is_bytes_unit(header)) return whole;
  header = trim(header);
  const size_t dash = header.find('-');
  if (dash == std::string_view::npos) return whole;
  const std::string_view from = header.substr(0, dash);
  const std::string_view to = header.substr(dash + 1);

  if (from.empty()) {
    const auto count = parse_position(to);
    return count ? suffix(*count, size) : whole;
  }
  const auto first = parse_position(from);
  const auto last = to.empty() ? UINT64_MAX : parse_position(to);
  if (!first || !last || *last < *first) return whole;
  if (*first >= size) return {Range::Kind::unsatisfiable, 0, 0};
  return {Range::Kind::partial, *first, std::min(*last, size - 1) - *first + 1};
}

}  // namespace httpd
