#include "host_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace postern::perf {

bool HostAddress::parse(const char* text, HostAddress& out) noexcept {
  std::array<uint8_t, 16> bytes{};
  out = {};
  if (inet_pton(AF_INET6, text, bytes.data()) == 1) {
    out.v6 = true;
    std::copy_n(bytes.begin(), out.prefix.size(), out.prefix.begin());
  } else if (inet_pton(AF_INET, text, &bytes[12]) != 1) {
    return false;
  }
  uint32_t low = 0;
  std::memcpy(&low, &bytes[12], sizeof low);
  out.low = ntohl(low);
  return true;
}

std::array<uint8_t, 16> HostAddress::bytes(uint32_t low_bits) const noexcept {
  std::array<uint8_t, 16> bytes{};
  std::copy(prefix.begin(), prefix.end(), bytes.begin());
  const uint32_t low_order = htonl(low_bits);
  std::memcpy(&bytes[12], &low_order, sizeof low_order);
  return bytes;
}

}  // namespace postern::perf
