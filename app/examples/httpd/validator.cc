#include "httpd/validator.h"

#include <array>
#include <cstdio>

namespace httpd {
namespace {

constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view without_weakness(std::string_view tag) {
  if (tag.starts_with("W/")) tag.remove_prefix(2);
  return tag;
}

}  // namespace

std::string format_date(time_t time) {
  std::tm tm{};
  gmtime_r(&time, &tm);
  char text[64];
  std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                kDays[static_cast<size_t>(tm.tm_wday)], tm.tm_mday,
                kMonths[static_cast<size_t>(tm.tm_mon)], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                tm.tm_sec);
  return text;
}

std::optional<time_t> parse_date(std::string_view text) {
  const std::string copy(trim(text));
  for (const char* format :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    std::tm tm{};
    const char* end = strptime(copy.c_str(), format, &tm);
    if (end != nullptr && *end == '\0') return timegm(&tm);
  }
  return std::nullopt;
}

Validator make_validator(uint64_t size, time_t modified, long nanoseconds) {
  char tag[64];
  std::snprintf(tag, sizeof tag, "\"%llx-%llx-%lx\"", static_cast<unsigned long long>(size),
                static_cast<unsigned long long>(modified), static_cast<unsigned long>(nanoseconds));
  return {tag, modified};
}

bool any_tag_matches(std::string_view list, const Validator& validator) {
  list = trim(list);
  if (list == "*") return true;
  while (!list.empty()) {
    // Our tags hold no comma, so that cutting at commas cannot split one that matches.
    const size_t comma = list.find(',');
    if (without_weakness(trim(list.substr(0, comma))) == validator.etag) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

bool is_not_modified(std::string_view if_none_match, std::string_view if_modified_since,
                     const Validator& validator) {
  if (!trim(if_none_match).empty()) return any_tag_matches(if_none_match, validator);
  const auto since = parse_date(if_modified_since);
  return since && validator.modified <= *since;
}

bool if_range_holds(std::string_view if_range, const Validator& validator) {
  if_range = trim(if_range);
  if (if_range.empty()) return true;
  if (if_range.starts_with('"')) return if_range == validator.etag;
  const auto date = parse_date(if_range);  // a weak tag is no date either: false
  return date && *date == validator.modified;
}

}  // namespace httpd
