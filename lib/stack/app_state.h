// What the stack keeps of one attached application: its receive pool and its slots.
#pragma once

#include <cstdint>
#include <memory>

#include "base/intrusive_list.h"
#include "stack/chunk_pool.h"
#include "stack/socket.h"
#include "stack/stack.h"

namespace postern {

struct AppSlot {
  uint32_t generation = 0;
  uint32_t socket = 0;  // kind in the two high bits, index below; kind none: free
};

class AppState {
 public:
  // Bytes of private memory that an application of this size needs.
  [[nodiscard]] static size_t book_size(const AppMemory& memory) noexcept;

  void attach(const AppMemory& memory) noexcept;
  void reset() noexcept;

  [[nodiscard]] bool attached() const noexcept { return attached_; }
  [[nodiscard]] const AppMemory& memory() const noexcept { return memory_; }
  [[nodiscard]] bool range_ok(uint64_t offset, uint64_t length) const noexcept {
    return offset <= memory_.tx_size && length <= memory_.tx_size - offset;
  }

  // The slot if it is open with this generation, else nullptr.
  [[nodiscard]] const AppSlot* find(uint32_t slot, uint32_t generation) const noexcept {
    if (!attached_ || detaching || slot >= memory_.slots) return nullptr;
    const AppSlot& s = slots_[slot];
    return is_open(s) && s.generation == generation ? &s : nullptr;
  }
  // A slot of the client's range, with the client's generation: false is a violation.
  [[nodiscard]] bool open_client_slot(uint32_t slot, uint32_t generation, SocketKind kind,
                                      uint32_t index) noexcept;
  // A slot of the daemon's range with a fresh generation; false: none is free.
  [[nodiscard]] bool open_daemon_slot(SocketKind kind, uint32_t index, uint32_t* slot,
                                      uint32_t* generation) noexcept;
  void close_slot(uint32_t slot) noexcept;

  [[nodiscard]] static uint32_t pack(SocketKind kind, uint32_t index) noexcept {
    return static_cast<uint32_t>(kind) << 30 | index;
  }
  [[nodiscard]] static SocketKind kind_of(uint32_t packed) noexcept {
    return static_cast<SocketKind>(packed >> 30);
  }
  [[nodiscard]] static uint32_t index_of(uint32_t packed) noexcept {
    return packed & ((uint32_t{1} << 30) - 1);
  }

  ChunkPool pool;
  IntrusiveList<Socket, AppTag> sockets;
  IntrusiveList<Socket, AppTag> lingering;  // after detach: those with data still in flight
  uint32_t socket_count = 0;
  uint32_t orphan_count = 0;  // of them: closed by the application, memory still needed
  bool detaching = false;
  bool detach_reset = false;

 private:
  static bool is_open(const AppSlot& s) noexcept { return kind_of(s.socket) != SocketKind::none; }

  AppMemory memory_;
  std::unique_ptr<std::byte[]> own_book_;  // when the caller brought none
  AppSlot* slots_ = nullptr;
  uint32_t free_slot_ = kNoSlot;  // of the daemon's range, linked through AppSlot::socket
  uint32_t next_slot_ = 0;        // of the daemon's range, never used so far
  bool attached_ = false;
};

}  // namespace postern
