#include "shm/channel.h"

#include <netinet/in.h>

#include <cstring>

#include "shm/segment_impl.h"

namespace postern {
namespace {

// Copies from memory that a peer may be writing, each 8-byte word loaded exactly once. Words may be
// of different writes; the copy is what gets checked.
template <class T>
void copy_words(T* to, const void* from) noexcept {
  constexpr size_t kWords = sizeof(T) / sizeof(uint64_t);
  static_assert(sizeof(T) % sizeof(uint64_t) == 0);
  const auto* source = static_cast<const uint64_t*>(from);
  uint64_t words[kWords];
#pragma GCC unroll 8
  for (size_t i = 0; i < kWords; ++i) words[i] = __atomic_load_n(source + i, __ATOMIC_RELAXED);
  std::memcpy(to, words, sizeof words);
}

constexpr uint8_t kKnownFlags = SHM_CMD_WANT_TX | SHM_CMD_MORE | SHM_CMD_PUSH | SHM_CMD_URGENT;

}  // namespace

Channel::Channel(AppSegment& segment, uint32_t index) {
  const AppSegment::Impl& impl = *segment.impl_;
  const AppSegment::Impl::Regions& r = impl.regions.at(index);
  const SegmentOptions& o = segment.options_;
  std::byte* daemon = impl.daemon.base;
  std::byte* client = impl.client.base;
  commands_ = reinterpret_cast<const shm_command*>(client + r.commands);
  events_ = reinterpret_cast<shm_event*>(daemon + r.events);
  ours_ = reinterpret_cast<shm_channel_daemon*>(daemon + r.control_d);
  theirs_ = reinterpret_cast<const shm_channel_client*>(client + r.control_c);
  command_mask_ = o.command_entries - 1;
  event_entries_ = o.event_entries;
  slots_ = o.slots;
  client_slots_ = o.client_slots;
  tx_pool_ = client + r.tx_pool;
  tx_size_ = o.tx_pool_bytes;
  requests_ = reinterpret_cast<const shm_request*>(client + r.requests);
  sockets_ = reinterpret_cast<shm_socket*>(daemon + r.sockets);
  figures_ = reinterpret_cast<shm_figures*>(daemon + r.figures);
  rx_pool_ = daemon + r.rx_pool;
  errors_ = reinterpret_cast<shm_error*>(daemon + r.errors);
  rx_units_ = static_cast<uint32_t>(o.rx_pool_bytes / SHM_CHUNK_UNIT);
  worker_doorbell_ = impl.wake_worker.at(index).ours.get();
  client_doorbell_ = impl.wake_client.at(index).ours.get();
}

bool Channel::refuse(const char* reason) noexcept {
  set_violation(reason);
  return false;
}

void Channel::set_violation(const char* reason) noexcept {
  if (violation_ == nullptr) violation_ = reason;
}

// ---- commands ----

// An entry's seq is index + 1 once it is written; until then it is what the last lap left (or 0 on
// the first). Anything else no correct producer leaves there.
bool Channel::next_command(shm_command* out) noexcept {
  if (violation_ != nullptr) return false;
  const shm_command* entry = commands_ + (command_index_ & command_mask_);
  const uint32_t seq = __atomic_load_n(&entry->seq, __ATOMIC_ACQUIRE);
  const uint32_t expected = command_index_ + 1;
  if (seq != expected) {
    const uint32_t before = command_lapped_ ? expected - (command_mask_ + 1) : 0;
    return seq == before ? false : refuse("command ring: impossible sequence word");
  }
  __builtin_prefetch(commands_ + ((command_index_ + kAhead) & command_mask_));
  copy_words(out, entry);
  ++command_index_;
  if (command_index_ == command_mask_ + 1) command_lapped_ = true;
  return check(*out);
}

bool Channel::extent_inside(const shm_command& c) const noexcept {
  return c.length != 0 && c.length <= SHM_MAX_OUTSTANDING && c.offset <= tx_size_ &&
         c.length <= tx_size_ - c.offset;
}

bool Channel::check(const shm_command& c) noexcept {
  if (c.slot >= slots_) return refuse("command: slot out of range");
  if (c.generation == 0) return refuse("command: generation 0");
  if ((c.flags & ~kKnownFlags) != 0) return refuse("command: unknown flag");
  switch (c.op) {
    case SHM_OP_OPEN:
      if (c.slot >= client_slots_) return refuse("OPEN: not one of the client's slots");
      return c.arg == IPPROTO_TCP || refuse("OPEN: unknown protocol");
    case SHM_OP_CONNECT:
      return c.slot < client_slots_ || refuse("CONNECT: not one of the client's slots");
    case SHM_OP_SEND:
      return extent_inside(c) || refuse("SEND: extent outside the transmit region");
    case SHM_OP_SENDTO:
      if (c.offset % 8 != 0 || c.length < sizeof(shm_datagram)) {
        return refuse("SENDTO: malformed record");
      }
      return extent_inside(c) || refuse("SENDTO: record outside the transmit region");
    case SHM_OP_SHUTDOWN:
      return c.arg <= 2 || refuse("SHUTDOWN: unknown direction");
    case SHM_OP_CLOSE:
      return c.arg <= 1 || refuse("CLOSE: unknown manner");
    case SHM_OP_SETOPT:
      return (c.arg >= SHM_OPT_NODELAY && c.arg <= SHM_OPT_LAST) ||
             refuse("SETOPT: unknown option");
    case SHM_OP_RECEIVED:
    case SHM_OP_ACCEPTED:
    case SHM_OP_INFO:
      return true;
    default:
      return refuse("command: unknown operation");
  }
}

void Channel::publish_commands() noexcept {
  __atomic_store_n(&ours_->command_head, command_index_, __ATOMIC_RELEASE);
}

bool Channel::commands_pending() const noexcept {
  const shm_command* entry = commands_ + (command_index_ & command_mask_);
  return violation_ == nullptr &&
         __atomic_load_n(&entry->seq, __ATOMIC_ACQUIRE) == command_index_ + 1;
}

shm_request Channel::request(uint32_t slot) const noexcept {
  shm_request copy;
  copy_words(&copy, requests_ + slot);
  return copy;
}

bool Channel::datagram(const shm_command& command, shm_datagram* out) noexcept {
  copy_words(out, tx_pool_ + command.offset);
  return out->length <= command.length - sizeof *out ||
         refuse("SENDTO: payload longer than its record");
}

// ---- events ----

// Accepts the client's head only if it lies between the last accepted one and our own index.
bool Channel::look_for_space() noexcept {
  const uint32_t head = __atomic_load_n(&theirs_->event_head, __ATOMIC_ACQUIRE);
  if (head - event_head_ > event_index_ - event_head_) {
    return refuse("event ring: impossible head");
  }
  event_head_ = head;
  return event_index_ - event_head_ < event_entries_;
}

bool Channel::push_event(const shm_event& event) noexcept {
  shm_event* const entry = event_place();
  if (entry == nullptr) return false;
  constexpr size_t kBody = sizeof event.seq;  // the body begins after seq
  std::memcpy(reinterpret_cast<unsigned char*>(entry) + kBody,
              reinterpret_cast<const unsigned char*>(&event) + kBody, sizeof event - kBody);
  show_event();
  return true;
}

// ---- errors ----

// A reader that sees any word of the new entry sees seq 0, or index + 1, when it looks once more.
void Channel::push_error(const shm_error& error) noexcept {
  shm_error* const entry = errors_ + (error_index_ & (SHM_ERRORS - 1));
  __atomic_store_n(&entry->seq, 0, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  constexpr size_t kBody = sizeof error.seq;
  std::memcpy(reinterpret_cast<unsigned char*>(entry) + kBody,
              reinterpret_cast<const unsigned char*>(&error) + kBody, sizeof error - kBody);
  __atomic_store_n(&entry->seq, ++error_index_, __ATOMIC_RELEASE);
}

// ---- sleep ----
//
// Claim: a consumer that goes to sleep while an entry is in its ring, or before one is put there,
// is rung. Both directions use the same protocol; here for commands (the worker consumes) with, in
// order of each side's program:
//
//   worker (arm, then commands_pending)       client (push, then ring)
//   W1  store armed = a, odd                  C1  store entry.seq = i + 1
//   W2  sleep_fence                           C2  full fence, or none with membarrier
//   W3  load entry.seq                        C3  load armed
//   W4  sleep unless it was i + 1             C4  ring if odd and not yet rung for this value
//
// Suppose that the worker sleeps although the entry i was published and nobody rang for a. Then W3
// did not see C1, so W3 precedes C1 in the order of entry.seq; and C3 did not see W1 (a later value
// of armed would be stored by the worker only after waking), so C3 precedes W1 in the order of
// armed. The fences are totally ordered. If W2 precedes C2, W1 is visible to C3: contradiction. If
// C2 precedes W2, C1 is visible to W3: contradiction. So either the worker sees the entry or the
// client sees a.
//
// Where the kernel has membarrier, the client leaves C2 out (SHM_FEATURE_WORKER_MEMBARRIER), and W2
// makes every processor that runs a thread of a registered process execute a full fence, F, at one
// moment between the beginning and the end of W2, with full fences of the worker's own at both
// ends. A thread that does not run at that moment is fenced by the switch to it. If F falls behind
// C1 in the client's program, C1 is visible after it, so to W3: contradiction. Else F falls before
// C1 and so before C3, and W1, visible since the beginning of W2, is seen by C3: contradiction.
//
// "Not yet rung for this value" loses nothing: if the client has rung for a before, the pipe holds
// those bytes until the worker reads them, which it does only after waking, and before it sleeps
// again it stores a larger odd value and looks at the ring again.
//
// What a word may be is the writer's business alone: a client that writes nonsense to its armed
// word costs itself a wake-up or is rung once for each batch of events, no more.
//
// tests/unit/shm enumerates every interleaving of these steps with store buffers, and shows that
// leaving out either fence or the second look is found.

void Channel::arm() noexcept {
  armed_ += 1;
  __atomic_store_n(&ours_->armed, armed_, __ATOMIC_RELAXED);
}

void Channel::disarm() noexcept {
  armed_ += 1;
  __atomic_store_n(&ours_->armed, armed_, __ATOMIC_RELAXED);
}

bool Channel::doorbell_due() noexcept {
  shm_fence();
  const uint32_t armed = __atomic_load_n(&theirs_->armed, __ATOMIC_RELAXED);
  if ((armed & 1) == 0 || armed == rung_) return false;
  rung_ = armed;
  return true;
}

// ---- memory ----

std::byte* Channel::rx_pool() const noexcept { return rx_pool_; }
uint32_t Channel::rx_units() const noexcept { return rx_units_; }
const std::byte* Channel::tx_pool() const noexcept { return tx_pool_; }
uint64_t Channel::tx_size() const noexcept { return tx_size_; }
shm_socket* Channel::socket(uint32_t slot) noexcept { return sockets_ + slot; }
const char* Channel::violation() const noexcept { return violation_; }
int Channel::worker_doorbell_fd() const noexcept { return worker_doorbell_; }
int Channel::client_doorbell_fd() const noexcept { return client_doorbell_; }
uint32_t Channel::slots() const noexcept { return slots_; }
uint32_t Channel::client_slots() const noexcept { return client_slots_; }

}  // namespace postern
