// The daemon's validated view of one application on one worker. Used by that worker only, after
// construction on the control thread. Nothing here trusts a word that the client can write: every
// entry is copied once and checked before use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "abi/shmsock.h"
#include "shm/rights.h"
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

  // False: the ring is full (or the client's index is impossible: violation()). A full ring is a
  // reason to ring: call doorbell_due() then, whatever the events were about, or a client that
  // sleeps on events that were not worth a bell never makes room.
  [[nodiscard]] bool push_event(const shm_event& event) noexcept;
  // The same in two steps, without a copy: the place of the next event, nullptr where push_event()
  // would say false; once all of it but `seq` is written, show_event().
  [[nodiscard]] shm_event* event_place() noexcept {
    if (violation_ != nullptr || !event_space()) return nullptr;
    return events_ + (event_index_ & (event_entries_ - 1));
  }
  void show_event() noexcept {
    shm_event* const entry = events_ + (event_index_ & (event_entries_ - 1));
    ++event_index_;
    // The client has read its line since: have it back before it is written.
    __builtin_prefetch(events_ + ((event_index_ + kAhead) & (event_entries_ - 1)), 1);
    __atomic_store_n(&entry->seq, event_index_, __ATOMIC_RELEASE);
  }
  // After a batch of events: fence, and true if the client is asleep and has not been rung since:
  // the caller writes client_doorbell_fd(). Says whether a system call is due, does not make it.
  [[nodiscard]] bool doorbell_due() noexcept;
  // Arms or disarms the worker's side (see SLEEP in shmsock.h). After arming, sleep_fence(), then a
  // look at commands_pending().
  void arm() noexcept;
  void disarm() noexcept;

  // ---- errors ----

  // Takes the next place of the ring of errors, whatever it holds. `seq` is this call's business.
  void push_error(const shm_error& error) noexcept;
  // Index after the last error: SHM_EV_ERRQUEUE's value2.
  [[nodiscard]] uint32_t error_tail() const noexcept { return error_index_; }

  // ---- memory ----
  [[nodiscard]] std::byte* rx_pool() const noexcept;
  [[nodiscard]] uint32_t rx_units() const noexcept;
  [[nodiscard]] const std::byte* tx_pool() const noexcept;
  [[nodiscard]] uint64_t tx_size() const noexcept;
  [[nodiscard]] shm_socket* socket(uint32_t slot) noexcept;  // slot < slots(); the worker fills it

  [[nodiscard]] shm_figures* figures() noexcept { return figures_; }  // the worker fills it

  // Why the application has to go, or nullptr.
  [[nodiscard]] const char* violation() const noexcept;
  void set_violation(const char* reason) noexcept;

  // The daemon's ends of the doorbell pipes, non-blocking. The worker sleeps on the first and
  // empties it after waking (reads of 8 bytes or more; what is left over wakes it once more, no
  // harm), and writes 8 bytes to the second (EAGAIN: it is rung already).
  [[nodiscard]] int worker_doorbell_fd() const noexcept;
  [[nodiscard]] int client_doorbell_fd() const noexcept;
  [[nodiscard]] uint32_t slots() const noexcept;
  [[nodiscard]] uint32_t client_slots() const noexcept;

  // What the application may do on its own; outlives the channel. nullptr, until set: everything.
  void set_rights(const AppRights* rights) noexcept { rights_ = rights; }
  [[nodiscard]] const AppRights* rights() const noexcept { return rights_; }

 private:
  static constexpr uint32_t kAhead = 4;  // entries, of both rings

  [[nodiscard]] bool refuse(const char* reason) noexcept;
  [[nodiscard]] bool check(const shm_command& command) noexcept;
  [[nodiscard]] bool extent_inside(const shm_command& command) const noexcept;
  [[nodiscard]] bool event_space() noexcept {
    return event_index_ - event_head_ < event_entries_ || look_for_space();
  }
  [[nodiscard]] bool look_for_space() noexcept;

  // Line 0: what every command and event touches. Geometry and indices are this side's own copies;
  // what the client claims is compared with them and never replaces them unchecked.
  const shm_command* commands_;
  shm_event* events_;
  shm_channel_daemon* ours_;
  const shm_channel_client* theirs_;
  uint32_t command_index_ = 0;  // next command to take
  uint32_t command_mask_;
  uint32_t event_index_ = 0;  // next event to write
  uint32_t event_head_ = 0;   // last head accepted from the client
  uint32_t event_entries_;
  uint32_t armed_ = 0;           // our own word
  uint32_t rung_ = 0;            // the client's armed word when it was last rung
  bool command_lapped_ = false;  // every entry has been written at least once
  // Line 1 and on.
  uint32_t slots_;
  uint32_t client_slots_;
  const std::byte* tx_pool_;
  uint64_t tx_size_;
  const shm_request* requests_;
  shm_socket* sockets_;
  shm_figures* figures_;
  std::byte* rx_pool_;
  uint32_t rx_units_;
  shm_error* errors_;
  uint32_t error_index_ = 0;  // next error to write
  int worker_doorbell_;
  int client_doorbell_;
  const AppRights* rights_ = nullptr;
  const char* violation_ = nullptr;
};

}  // namespace postern
