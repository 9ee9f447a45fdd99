// The messages of postern.sock: checked on the way in, built on the way out. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "abi/shmsock.h"

namespace postern {

// Largest message that a client of this version sends.
inline constexpr size_t kMaxSessionMessage = sizeof(shm_bind_request);
static_assert(sizeof(shm_group_request) <= kMaxSessionMessage);

// A request as it arrived, or why it is none: wrong size, unknown type. Its fields are as untrusted
// as before. An ATTACH may be longer than ours (a later minor version appended to it) or of another
// major version, of which only magic and version are filled in.
using SessionRequest =
    std::variant<shm_attach_request, shm_bind_request, shm_group_request, std::string>;
SessionRequest decode_request(std::span<const std::byte> message);

// Why the version is refused, naming both; nullopt if it is accepted.
std::optional<std::string> refuse_version(const shm_attach_request& request);

// The name a client gives itself, printable and never empty.
std::string program_name(const shm_attach_request& request);

// Replies; `error` is an errno value, the message is cut to fit.
shm_attach_reply attach_refusal(int error, std::string_view message);
shm_bind_reply bind_refusal(uint32_t type, int error, std::string_view message);

}  // namespace postern
