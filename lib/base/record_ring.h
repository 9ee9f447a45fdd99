// Bounded queue of records of any length between two threads of one process: one producer, one
// consumer, no lock. Records are written and read in place.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace postern {

// A record is its length in 8 bytes, then its bytes, filled up to a multiple of 8, all in one
// piece: what does not fit before the end of the storage begins anew at its front. Positions run
// freely.
class RecordRing {
 public:
  // Bytes of storage are rounded up to a power of two; a record of half of them always fits an
  // empty ring. The only allocation.
  explicit RecordRing(uint32_t bytes)
      : size_(std::bit_ceil(bytes < 64 ? 64U : bytes)),
        storage_(std::make_unique<std::byte[]>(size_)) {}
  RecordRing(const RecordRing&) = delete;
  RecordRing& operator=(const RecordRing&) = delete;

  [[nodiscard]] uint32_t capacity() const noexcept { return size_; }

  // ---- producer ----
  // Where a record of at most `length` bytes may be written; nullptr: full.
  [[nodiscard]] std::byte* reserve(uint32_t length) noexcept {
    const uint64_t need = size_of(length);
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    const uint64_t to_end = size_ - (tail & (size_ - 1));
    skip_ = need > to_end ? to_end : 0;
    if (tail + skip_ + need - head_seen_ > size_) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail + skip_ + need - head_seen_ > size_) return nullptr;
    }
    return at(tail + skip_) + kHeader;
  }
  // Shows the record that was written where reserve() said, `length` not more than reserved.
  void commit(uint32_t length) noexcept {
    uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (skip_ != 0) put(tail, kSkip);
    tail += skip_;
    put(tail, length);
    tail_.store(tail + size_of(length), std::memory_order_release);
  }
  // reserve() and commit() of a copy. False: full.
  [[nodiscard]] bool push(std::span<const std::byte> record) noexcept {
    const auto length = static_cast<uint32_t>(record.size());
    std::byte* const to = reserve(length);
    if (to == nullptr) return false;
    std::memcpy(to, record.data(), length);
    commit(length);
    return true;
  }

  // ---- consumer ----
  // The oldest record, valid until pop(); its data is null if there is none.
  [[nodiscard]] std::span<const std::byte> front() noexcept {
    uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return {};
    }
    uint64_t length = get(head);
    if (length == kSkip) {
      head += size_ - (head & (size_ - 1));
      head_.store(head, std::memory_order_release);
      length = get(head);
    }
    return {at(head) + kHeader, static_cast<size_t>(length)};
  }
  // Gives the room of the record that front() returned back.
  void pop() noexcept {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    head_.store(head + size_of(static_cast<uint32_t>(get(head))), std::memory_order_release);
  }

  // ---- either side; by the time it is read it may have changed in the other's favour ----
  [[nodiscard]] bool empty() const noexcept {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }

 private:
  static constexpr size_t kLine = 64;
  static constexpr uint64_t kHeader = 8;
  static constexpr uint64_t kSkip = UINT64_MAX;
  static uint64_t size_of(uint32_t length) noexcept {
    return kHeader + ((uint64_t{length} + 7) & ~uint64_t{7});
  }
  std::byte* at(uint64_t position) const noexcept {
    return storage_.get() + (position & (size_ - 1));
  }
  void put(uint64_t position, uint64_t word) noexcept {
    std::memcpy(at(position), &word, sizeof word);
  }
  [[nodiscard]] uint64_t get(uint64_t position) const noexcept {
    uint64_t word;
    std::memcpy(&word, at(position), sizeof word);
    return word;
  }

  const uint32_t size_;
  const std::unique_ptr<std::byte[]> storage_;
  alignas(kLine) std::atomic<uint64_t> tail_{0};  // written by the producer
  uint64_t head_seen_ = 0;                        // the producer's copy of head_
  uint64_t skip_ = 0;                             // of the last reserve()
  alignas(kLine) std::atomic<uint64_t> head_{0};  // written by the consumer
  uint64_t tail_seen_ = 0;                        // the consumer's copy of tail_
};

}  // namespace postern
