// The worker's fence of the SLEEP protocol (shmsock.h), for itself and, where the kernel has
// membarrier, for every client as well.
#pragma once

namespace postern {

// Clients may rely on sleep_fence() instead of a fence of their own. The same for the life of the
// process.
[[nodiscard]] bool fences_for_clients() noexcept;

// Between arming, of any number of channels, and looking once more. About a microsecond.
void sleep_fence() noexcept;

}  // namespace postern
