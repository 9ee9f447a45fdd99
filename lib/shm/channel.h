// The daemon's validated view of one application on one worker. Used by that worker only, after
// construction on the control thread. Nothing here trusts a word that the client can write: every
// entry is copied once and checked before use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "abi/shmsock.h"
#include "shm/segment.h"

namespace postern {

class Channel {
 public:
  Channel(AppSegment& segment, uint32_t index);

  // ---- commands ----

  // The next command, copied; false if there is none. Range checks done here: op known, slot <
  // slots, generation != 0, extents inside the transmit region. A command that fails them sets
  // violation() and returns false, for good.
  [[nodiscard]] bool next_command(shm_command* out) noexcept;
  // Publishes the consumer index; once per drain.
  void publish_commands() noexcept;
  // Copies what CONNECT names. slot < client_slots was checked.
  [[nodiscard]] shm_request request(uint32_t slot) const noexcept;
  // Copies the header of a SENDTO record and checks that header + payload lie inside
  // [offset, offset + length). False sets violation().
  [[nodiscard]] bool datagram(const shm_command& command, shm_datagram* out) noexcept;
  [[nodiscard]] bool commands_pending() const noexcept;

  // ---- events ----

  // False: the ring is full (or the client's index is impossible: violation()).
  [[nodiscard]] bool push_event(shm_event event) noexcept;
  // After a batch of events: fence, and true if the client is asleep and has not been rung since:
  // the caller writes client_doorbell_fd(). Says whether a system call is due, does not make it.
  [[nodiscard]] bool doorbell_due() noexcept;
  // Arms or disarms the worker's side (see SLEEP in shmsock.h). arm() fences.
  void arm() noexcept;
  void disarm() noexcept;

  // ---- memory ----
  [[nodiscard]] std::byte* rx_pool() const noexcept;
  [[nodiscard]] uint32_t rx_units() const noexcept;
  [[nodiscard]] const std::byte* tx_pool() const noexcept;
  [[nodiscard]] uint64_t tx_size() const noexcept;
  [[nodiscard]] shm_socket* socket(uint32_t slot) noexcept;  // for the worker to fill

  // Why the application has to go, or nullptr.
  [[nodiscard]] const char* violation() const noexcept;
  void set_violation(const char* reason) noexcept;

  [[nodiscard]] int worker_doorbell_fd() const noexcept;
  [[nodiscard]] int client_doorbell_fd() const noexcept;
  [[nodiscard]] uint32_t slots() const noexcept;
  [[nodiscard]] uint32_t client_slots() const noexcept;

 private:
  // Private copies of geometry and indices; see channel.cc.
};

}  // namespace postern
