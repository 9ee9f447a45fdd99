// The bounds-checked reader of untrusted bytes: the one place where lengths are compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace postern::wire {

// A window over bytes that only shrinks. Does not own them.
class Cursor {
 public:
  Cursor(const std::byte* data, size_t length) : begin_(data), at_(data), end_(data + length) {}
  explicit Cursor(std::span<const std::byte> bytes) : Cursor(bytes.data(), bytes.size()) {}

  // The next sizeof(T) bytes as a T, which they now are proven to hold, or nullptr; then nothing is
  // consumed. T is an overlay: alignment 1, no invariants.
  template <class T>
  [[nodiscard]] const T* take() {
    const T* const header = peek<T>();
    if (header != nullptr) at_ += sizeof(T);
    return header;
  }
  template <class T>
  [[nodiscard]] const T* peek() const {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
    return remaining() >= sizeof(T) ? reinterpret_cast<const T*>(at_) : nullptr;
  }
  // The next n bytes, or nullptr.
  [[nodiscard]] const std::byte* take_bytes(size_t n) {
    if (remaining() < n) return nullptr;
    const std::byte* const bytes = at_;
    at_ += n;
    return bytes;
  }
  // Drops what lies beyond the next n bytes (padding). False: there are fewer.
  [[nodiscard]] bool truncate(size_t n) {
    if (remaining() < n) return false;
    end_ = at_ + n;
    return true;
  }

  [[nodiscard]] const std::byte* data() const { return at_; }
  [[nodiscard]] size_t remaining() const { return static_cast<size_t>(end_ - at_); }
  // Bytes consumed since construction.
  [[nodiscard]] size_t position() const { return static_cast<size_t>(at_ - begin_); }
  [[nodiscard]] std::span<const std::byte> rest() const { return {at_, remaining()}; }

 private:
  const std::byte* begin_;
  const std::byte* at_;
  const std::byte* end_;
};

}  // namespace postern::wire
