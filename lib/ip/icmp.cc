#include "ip/icmp.h"

#include <array>
#include <cerrno>

#include "wire/headers.h"

namespace postern {

int icmp4_errno(uint8_t type, uint8_t code) noexcept {
  // RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1
  static constexpr std::array<int, 16> kUnreachable{
      ENETUNREACH,  EHOSTUNREACH, ENOPROTOOPT,  ECONNREFUSED, EMSGSIZE,     EOPNOTSUPP,
      ENETUNREACH,  EHOSTDOWN,    ENONET,       ENETUNREACH,  EHOSTUNREACH, ENETUNREACH,
      EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH};
  switch (type) {
    case wire::icmp4::unreachable:
      return code < kUnreachable.size() ? kUnreachable[code] : 0;
    case wire::icmp4::time_exceeded:
      return EHOSTUNREACH;
    case wire::icmp4::parameter_problem:
      return EPROTO;
    default:
      return 0;
  }
}

int icmp6_errno(uint8_t type, uint8_t code) noexcept {
  // RFC 4443 3.1
  static constexpr std::array<int, 7> kUnreachable{ENETUNREACH,  EACCES, EHOSTUNREACH, EHOSTUNREACH,
                                                   ECONNREFUSED, EACCES, EACCES};
  switch (type) {
    case wire::icmp6::unreachable:
      return code < kUnreachable.size() ? kUnreachable[code] : EPROTO;
    case wire::icmp6::packet_too_big:
      return EMSGSIZE;
    case wire::icmp6::time_exceeded:
      return EHOSTUNREACH;
    default:  // RFC 4443 2.4 a: an error, whatever it is
      return type < 128 ? EPROTO : 0;
  }
}

uint32_t mtu_plateau(uint32_t length) noexcept {
  static constexpr std::array<uint32_t, 11> kPlateaus{65535, 32000, 17914, 8166, 4352, 2002,
                                                      1492,  1006,  508,   296,  68};
  for (const uint32_t plateau : kPlateaus) {
    if (plateau < length) return plateau;
  }
  return kPlateaus.back();
}

}  // namespace postern
