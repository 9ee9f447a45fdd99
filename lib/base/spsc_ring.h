// Bounded queue between two threads of one process: one producer, one consumer, no lock. Between
// processes use lib/shm: this one trusts both sides.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace postern {

// Indices run freely modulo 2^32; slot = index & mask. Each side keeps a copy of the other's index
// and reads the shared one only when the copy says full or empty, so that a stream of items moves
// one cache line of indices per batch, not per item.
template <class T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  // Capacity is rounded up to a power of two, at most 2^31. The only allocation.
  explicit SpscRing(uint32_t capacity)
      : mask_(std::bit_ceil(capacity < 1 ? 1 : capacity) - 1),
        slots_(std::make_unique<T[]>(size_t{mask_} + 1)) {}
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;

  [[nodiscard]] uint32_t capacity() const noexcept { return mask_ + 1; }

  // ---- producer ----
  // False: full.
  [[nodiscard]] bool push(const T& item) noexcept { return push_burst(&item, 1) == 1; }
  // Takes as many of n as there is room for, from the front, and shows them at once.
  size_t push_burst(const T* items, size_t n) noexcept {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    uint32_t room = capacity() - (tail - head_seen_);
    if (room < n) {
      head_seen_ = head_.load(std::memory_order_acquire);
      room = capacity() - (tail - head_seen_);
      if (n > room) n = room;
    }
    for (size_t i = 0; i < n; ++i) slots_[(tail + i) & mask_] = items[i];
    if (n > 0) tail_.store(tail + static_cast<uint32_t>(n), std::memory_order_release);
    return n;
  }

  // ---- consumer ----
  // False: empty.
  [[nodiscard]] bool pop(T* item) noexcept { return pop_burst(item, 1) == 1; }
  // Moves up to n items out, oldest first.
  size_t pop_burst(T* items, size_t n) noexcept {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    uint32_t available = tail_seen_ - head;
    if (available < n) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      available = tail_seen_ - head;
      if (n > available) n = available;
    }
    for (size_t i = 0; i < n; ++i) items[i] = slots_[(head + i) & mask_];
    if (n > 0) head_.store(head + static_cast<uint32_t>(n), std::memory_order_release);
    return n;
  }

  // ---- either side; by the time it is read it may have changed in the other's favour ----
  [[nodiscard]] bool empty() const noexcept {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }

 private:
  static constexpr size_t kLine = 64;
  const uint32_t mask_;
  const std::unique_ptr<T[]> slots_;
  alignas(kLine) std::atomic<uint32_t> tail_{0};  // written by the producer
  uint32_t head_seen_ = 0;                        // the producer's copy of head_
  alignas(kLine) std::atomic<uint32_t> head_{0};  // written by the consumer
  uint32_t tail_seen_ = 0;                        // the consumer's copy of tail_
};

}  // namespace postern
