#include "base/address.h"

#include <cstdio>

namespace postern {

namespace {

// A decimal number of at most `limit`, without sign or leading zero, at the front of *text;
// consumes it.
std::optional<unsigned> take_decimal(std::string_view* text, unsigned limit) {
  unsigned value = 0;
  size_t n = 0;
  for (; n < text->size() && (*text)[n] >= '0' && (*text)[n] <= '9'; ++n) {
    if (n == 1 && (*text)[0] == '0') return std::nullopt;
    value = value * 10 + static_cast<unsigned>((*text)[n] - '0');
    if (value > limit) return std::nullopt;
  }
  if (n == 0) return std::nullopt;
  text->remove_prefix(n);
  return value;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// One to max_digits hexadecimal digits at the front of *text; consumes them.
std::optional<unsigned> take_hex(std::string_view* text, size_t max_digits) {
  unsigned value = 0;
  size_t n = 0;
  for (; n < text->size() && hex_digit((*text)[n]) >= 0; ++n) {
    if (n == max_digits) return std::nullopt;
    value = value << 4 | static_cast<unsigned>(hex_digit((*text)[n]));
  }
  if (n == 0) return std::nullopt;
  text->remove_prefix(n);
  return value;
}

bool take_char(std::string_view* text, char c) {
  if (text->empty() || text->front() != c) return false;
  text->remove_prefix(1);
  return true;
}

// Dotted quad, all of text.
std::optional<uint32_t> parse_v4(std::string_view text) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    if (i > 0 && !take_char(&text, '.')) return std::nullopt;
    const auto octet = take_decimal(&text, 255);
    if (!octet) return std::nullopt;
    value = value << 8 | *octet;
  }
  return text.empty() ? std::optional(value) : std::nullopt;
}

// The groups of an IPv6 address as they are read, and where "::" stood among them.
struct Groups {
  std::array<uint16_t, 8> value{};
  size_t count = 0;
  size_t gap = SIZE_MAX;
  bool add(unsigned group) {
    if (count == 8) return false;
    value[count++] = static_cast<uint16_t>(group);
    return true;
  }
};

// RFC 4291 2.2: one group, or the dotted quad that may end the text. Consumes it.
bool take_group(std::string_view* text, Groups* groups) {
  const size_t end = text->find_first_of(":");
  const std::string_view word = text->substr(0, end);
  if (word.find('.') != std::string_view::npos) {
    const auto quad = end == std::string_view::npos ? parse_v4(word) : std::nullopt;
    if (!quad) return false;
    text->remove_prefix(word.size());
    return groups->add(*quad >> 16) && groups->add(*quad & 0xffff);
  }
  const auto group = take_hex(text, 4);
  return group && groups->add(*group);
}

std::optional<IpAddress> parse_v6(std::string_view text) {
  Groups groups;
  if (text.substr(0, 2) == "::") {
    groups.gap = 0;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    if (!take_group(&text, &groups)) return std::nullopt;
    if (text.empty()) break;
    if (!take_char(&text, ':') || text.empty()) return std::nullopt;
    if (text.front() == ':') {
      if (groups.gap != SIZE_MAX) return std::nullopt;
      groups.gap = groups.count;
      text.remove_prefix(1);
    }
  }
  // "::" stands for at least one group.
  if (groups.gap == SIZE_MAX ? groups.count != 8 : groups.count > 7) return std::nullopt;
  uint8_t bytes[16] = {};
  for (size_t i = 0; i < groups.count; ++i) {
    const size_t at = i < groups.gap ? i : 8 - groups.count + i;
    bytes[2 * at] = static_cast<uint8_t>(groups.value[i] >> 8);
    bytes[2 * at + 1] = static_cast<uint8_t>(groups.value[i]);
  }
  return IpAddress::v6(bytes);
}

// RFC 5952 4.2: the first longest run of two or more zero groups.
struct ZeroRun {
  size_t begin = 8;
  size_t length = 0;
};
ZeroRun longest_zero_run(const std::array<uint16_t, 8>& groups) {
  ZeroRun best;
  for (size_t i = 0; i < 8; ++i) {
    size_t n = 0;
    while (i + n < 8 && groups[i + n] == 0) ++n;
    if (n > best.length && n >= 2) best = {i, n};
    i += n;
  }
  return best;
}

std::string v6_text(const uint8_t* bytes) {
  std::array<uint16_t, 8> groups;
  for (size_t i = 0; i < 8; ++i) {
    groups[i] = static_cast<uint16_t>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
  }
  const ZeroRun run = longest_zero_run(groups);
  std::string text;
  for (size_t i = 0; i < 8; ++i) {
    if (i == run.begin) {
      text += "::";
      i += run.length - 1;
      continue;
    }
    if (!text.empty() && text.back() != ':') text += ':';
    char group[5];
    std::snprintf(group, sizeof group, "%x", groups[i]);
    text += group;
  }
  return text;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.find(':') != std::string_view::npos) return parse_v6(text);
  const auto quad = parse_v4(text);
  return quad ? std::optional(v4(*quad)) : std::nullopt;
}

std::string IpAddress::to_string() const {
  if (!is_v4()) return v6_text(bytes_.data());
  char text[16];
  std::snprintf(text, sizeof text, "%u.%u.%u.%u", bytes_[12], bytes_[13], bytes_[14], bytes_[15]);
  return text;
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  std::string_view rest = text.substr(slash + 1);
  const auto length = take_decimal(&rest, address->is_v4() ? 32 : 128);
  if (!length || !rest.empty()) return std::nullopt;
  return Prefix{*address, static_cast<uint8_t>(*length)};
}

std::string Prefix::to_string() const { return address.to_string() + "/" + std::to_string(length); }

bool Prefix::contains(const IpAddress& a) const {
  if (a.is_v4() != address.is_v4()) return false;
  const unsigned bits = length + (address.is_v4() ? 96U : 0U);
  const unsigned whole = bits / 8;
  if (std::memcmp(a.data(), address.data(), whole) != 0) return false;
  const unsigned rest = bits % 8;
  if (rest == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - rest));
  return ((a.data()[whole] ^ address.data()[whole]) & mask) == 0;
}

std::string Endpoint::to_string() const {
  const std::string host = address.is_v4() ? address.to_string() : "[" + address.to_string() + "]";
  return host + ":" + std::to_string(port);
}

std::optional<MacAddress> parse_mac(std::string_view text) {
  MacAddress mac;
  for (size_t i = 0; i < 6; ++i) {
    if (i > 0 && !take_char(&text, ':')) return std::nullopt;
    const auto octet = take_hex(&text, 2);
    if (!octet) return std::nullopt;
    mac.bytes[i] = static_cast<uint8_t>(*octet);
  }
  return text.empty() ? std::optional(mac) : std::nullopt;
}

std::string to_string(const MacAddress& mac) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac.bytes[0], mac.bytes[1],
                mac.bytes[2], mac.bytes[3], mac.bytes[4], mac.bytes[5]);
  return text;
}

}  // namespace postern
