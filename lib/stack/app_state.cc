#include "stack/app_state.h"

#include <cstring>
#include <new>

namespace postern {
namespace {

size_t page_bytes(const AppMemory& memory) {
  return ChunkPool::pages_for(memory.rx_units) * sizeof(ChunkPool::Page);
}

}  // namespace

size_t AppState::book_size(const AppMemory& memory) noexcept {
  return page_bytes(memory) + size_t{memory.slots} * sizeof(AppSlot);
}

void AppState::attach(const AppMemory& memory) noexcept {
  memory_ = memory;
  auto* book = static_cast<std::byte*>(memory.book);
  if (book == nullptr) {
    own_book_ = std::make_unique<std::byte[]>(book_size(memory));
    book = own_book_.get();
  }
  pool.reset(memory.rx_pool, memory.rx_units, reinterpret_cast<ChunkPool::Page*>(book));
  slots_ = reinterpret_cast<AppSlot*>(book + page_bytes(memory));
  free_slot_ = kNoSlot;
  next_slot_ = memory.client_slots;
  attached_ = true;
  detaching = detach_reset = false;
  socket_count = orphan_count = 0;
}

void AppState::reset() noexcept {
  attached_ = detaching = false;
  slots_ = nullptr;
  own_book_.reset();
  memory_ = {};
}

bool AppState::open_client_slot(uint32_t slot, uint32_t generation, SocketKind kind,
                                uint32_t index) noexcept {
  if (!attached_ || slot >= memory_.client_slots || generation == 0) return false;
  AppSlot& s = slots_[slot];
  if (is_open(s) || s.generation == generation) return false;
  s = {generation, pack(kind, index)};
  return true;
}

bool AppState::open_daemon_slot(SocketKind kind, uint32_t index, uint32_t* slot,
                                uint32_t* generation) noexcept {
  if (!attached_) return false;
  if (free_slot_ != kNoSlot) {
    *slot = free_slot_;
    free_slot_ = slots_[*slot].socket - 1;  // of the last one: kNoSlot
  } else if (next_slot_ < memory_.slots) {
    *slot = next_slot_++;
  } else {
    return false;
  }
  AppSlot& s = slots_[*slot];
  s.generation = s.generation + 1 == 0 ? 1 : s.generation + 1;
  s.socket = pack(kind, index);
  *generation = s.generation;
  return true;
}

void AppState::close_slot(uint32_t slot) noexcept {
  AppSlot& s = slots_[slot];
  s.socket = 0;
  if (slot < memory_.client_slots) return;
  s.socket = free_slot_ + 1;
  free_slot_ = slot;
}

}  // namespace postern
