// Validators of a file, and the conditions that requests put on them (RFC 9110 8.8 and 13).
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace httpd {

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 5.6.7).
std::string format_date(time_t time);
// The three formats that a server must accept.
std::optional<time_t> parse_date(std::string_view text);

struct Validator {
  std::string etag;  // strong, with its quotes
  time_t modified = 0;
};

// Changes when size or modification time (nanoseconds) do.
Validator make_validator(uint64_t size, time_t modified, long nanoseconds);

// RFC 9110 13.1.2: is one of the listed tags this one, by weak comparison? "*" is.
bool any_tag_matches(std::string_view if_none_match, const Validator& validator);

// RFC 9110 13.2.2: answer 304? `if_modified_since` counts only without `if_none_match`.
bool is_not_modified(std::string_view if_none_match, std::string_view if_modified_since,
                     const Validator& validator);

// RFC 9110 13.1.5: may the range be served? True without the field.
bool if_range_holds(std::string_view if_range, const Validator& validator);

}  // namespace httpd
