// Addresses of both families in one 16-byte value. IPv4 is held mapped (::ffff:a.b.c.d, RFC 4291
// 2.5.5.2), so that keys, tables and the shared memory know one form only.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace postern {

struct MacAddress {
  std::array<uint8_t, 6> bytes{};
  // Once for each packet received: two words, where the default calls memcmp().
  friend bool operator==(const MacAddress& a, const MacAddress& b) {
    uint32_t a0, b0;
    uint16_t a4, b4;
    std::memcpy(&a0, a.bytes.data(), 4);
    std::memcpy(&b0, b.bytes.data(), 4);
    std::memcpy(&a4, a.bytes.data() + 4, 2);
    std::memcpy(&b4, b.bytes.data() + 4, 2);
    return ((a0 ^ b0) | static_cast<uint32_t>(a4 ^ b4)) == 0;
  }
  [[nodiscard]] bool is_multicast() const { return (bytes[0] & 1) != 0; }
  [[nodiscard]] bool is_broadcast() const {
    return bytes == std::array<uint8_t, 6>{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  }
  [[nodiscard]] bool is_zero() const { return bytes == std::array<uint8_t, 6>{}; }
};

class IpAddress {
 public:
  constexpr IpAddress() = default;  // "::", which also means "any"
  static constexpr IpAddress v4(uint32_t host_order) {
    IpAddress a;
    a.bytes_[10] = a.bytes_[11] = 0xff;
    for (int i = 0; i < 4; ++i) a.bytes_[12 + i] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
    return a;
  }
  static IpAddress v6(const uint8_t bytes[16]) {
    IpAddress a;
    std::memcpy(a.bytes_.data(), bytes, 16);
    return a;
  }
  // IPv4 from its four bytes as one load reads them.
  [[nodiscard]] static constexpr IpAddress v4_from_memory(uint32_t word) {
    static_assert(std::endian::native == std::endian::little);
    IpAddress a;
    a.bytes_ = std::bit_cast<Bytes>(Words{0, kMapped[1] | uint64_t{word} << 32});
    return a;
  }
  // Textual form of either family, without prefix length. nullopt if it is not an address.
  static std::optional<IpAddress> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;

  [[nodiscard]] constexpr bool is_v4() const {
    const Words w = words();
    return w[0] == 0 && (w[1] & kMappedMask[1]) == kMapped[1];
  }
  // Host order; meaningful only if is_v4().
  [[nodiscard]] constexpr uint32_t v4_value() const {
    return uint32_t{bytes_[12]} << 24 | uint32_t{bytes_[13]} << 16 | uint32_t{bytes_[14]} << 8 |
           bytes_[15];
  }
  // "::" or 0.0.0.0.
  [[nodiscard]] constexpr bool is_any() const {
    const Words w = words();
    return w[0] == 0 && (w[1] == 0 || w[1] == kMapped[1]);
  }
  [[nodiscard]] constexpr bool is_multicast() const {
    return is_v4() ? (bytes_[12] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
  }
  // RFC 4291 2.5.6: fe80::/10. IPv4's 169.254.0.0/16 is an address like any other here.
  [[nodiscard]] constexpr bool is_link_local() const {
    return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
  }
  [[nodiscard]] const uint8_t* data() const { return bytes_.data(); }
  [[nodiscard]] uint8_t* data() { return bytes_.data(); }
  friend constexpr bool operator==(const IpAddress& a, const IpAddress& b) {
    const Words x = a.words();
    const Words y = b.words();
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
  }
  friend constexpr auto operator<=>(const IpAddress& a, const IpAddress& b) {
    return a.bytes_ <=> b.bytes_;
  }

 private:
  using Bytes = std::array<uint8_t, 16>;
  using Words = std::array<uint64_t, 2>;  // in the order of memory
  [[nodiscard]] constexpr Words words() const { return std::bit_cast<Words>(bytes_); }
  static constexpr Words kMapped =
      std::bit_cast<Words>(Bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0});
  static constexpr Words kMappedMask = std::bit_cast<Words>(
      Bytes{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0});

  alignas(8) Bytes bytes_{};
};
static_assert(sizeof(IpAddress) == 16);

// An address with its prefix length in bits of its own family (0..32 or 0..128).
struct Prefix {
  IpAddress address;
  uint8_t length = 0;
  friend bool operator==(const Prefix&, const Prefix&) = default;
  // "192.0.2.1/24" or "2001:db8::1/64". nullopt if malformed.
  static std::optional<Prefix> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] bool contains(const IpAddress& a) const;
};

struct Endpoint {
  IpAddress address;
  uint16_t port = 0;  // host order; 0 means "any"
  friend constexpr bool operator==(const Endpoint&, const Endpoint&) = default;
  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) = default;
  [[nodiscard]] std::string to_string() const;  // "192.0.2.1:80", "[2001:db8::1]:80"
};

std::optional<MacAddress> parse_mac(std::string_view text);
std::string to_string(const MacAddress& mac);

}  // namespace postern
