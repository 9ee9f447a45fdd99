// Frames that no socket stands behind: ARP, ICMP, resets. Small and bounded: when it is full, the
// newest answer is not given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "wire/packet.h"

namespace postern {

class ControlQueue {
 public:
  ControlQueue(uint32_t count, uint32_t frame_size)
      : frames_(count),
        bytes_(std::make_unique<std::byte[]>(size_t{count} * frame_size)),
        frame_size_(frame_size) {}

  // The frame to build next, reset, or nullptr if the queue is full. Not queued until commit().
  [[nodiscard]] TxFrame* begin() noexcept {
    if (tail_ - head_ == frames_.size()) return nullptr;
    const size_t i = tail_ % frames_.size();
    frames_[i] = {};
    frames_[i].data = bytes_.get() + i * frame_size_;
    frames_[i].capacity = frame_size_;
    return &frames_[i];
  }
  void commit() noexcept { ++tail_; }

  [[nodiscard]] bool room() const noexcept { return tail_ - head_ < frames_.size(); }
  [[nodiscard]] size_t free() const noexcept { return frames_.size() - (tail_ - head_); }
  [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
  // The oldest frame; the queue is not empty.
  [[nodiscard]] const TxFrame& front() const noexcept { return frames_[head_ % frames_.size()]; }
  void pop() noexcept { ++head_; }

 private:
  std::vector<TxFrame> frames_;
  std::unique_ptr<std::byte[]> bytes_;
  uint32_t frame_size_;
  size_t head_ = 0;
  size_t tail_ = 0;
};

}  // namespace postern
