// Which worker a received frame belongs to. Pure; meets unproven bytes and reads none beyond
// `length`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/address.h"

namespace postern {

// Answers of steer() besides a worker's index.
inline constexpr uint32_t kSteerHere = UINT32_MAX;          // malformed: whoever has it counts it
inline constexpr uint32_t kSteerEveryone = UINT32_MAX - 1;  // every worker learns from it

// The owner of a flow is a function of its addresses and ports in either order (dpdk/rss.h). A
// fragment belongs to the owner of its addresses alone, so that all of a packet meet. An ICMP error
// belongs to the flow it quotes; ARP and neighbor discovery to everyone, of whom only worker 0
// answers; requests of ICMP to worker 0.
[[nodiscard]] uint32_t steer(std::span<const std::byte> frame, uint32_t workers) noexcept;

// The owner of a TCP or UDP flow.
[[nodiscard]] uint32_t owner_of(const Endpoint& a, const Endpoint& b, uint32_t workers) noexcept;

// Worker 0 answers ARP requests. For the others a request becomes a reply to `mac`: they learn the
// sender and answer nothing. Leaves other frames as they are.
void answer_not(std::span<std::byte> frame, const MacAddress& mac) noexcept;

}  // namespace postern
