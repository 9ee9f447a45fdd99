// How an address becomes ours, and ceases to be: RFC 4862 5.4 and 5.5.4, RFC 5227.
#pragma once

#include <cstdint>

namespace postern {

enum class AddressState : uint8_t {
  tentative,   // it is asked whether somebody has it; not ours yet
  preferred,   // ours
  deprecated,  // ours, for conversations that are there already (IPv6)
  duplicate,   // somebody else's
};

[[nodiscard]] constexpr const char* address_state_name(AddressState state) noexcept {
  switch (state) {
    case AddressState::tentative:
      return "tentative";
    case AddressState::preferred:
      return "preferred";
    case AddressState::deprecated:
      return "deprecated";
    default:
      return "duplicate";
  }
}

}  // namespace postern
