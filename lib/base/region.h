// Zeroed memory for tables that live as long as their worker: mapped once, page-aligned, on
// transparent huge pages where the kernel has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace postern {

// Owns one private anonymous mapping. Reads as zero. Throws std::bad_alloc when the kernel refuses;
// makes system calls on construction and destruction only.
class Region {
 public:
  Region() = default;
  // prefault: every page is backed before the constructor returns, so that no worker takes a fault.
  explicit Region(size_t bytes, bool prefault = false);
  ~Region();
  Region(Region&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Region& operator=(Region&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] size_t size() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// A fixed array in a Region. T's all-zero bytes must be a valid T and need no destructor.
template <class T>
class RegionArray {
  static_assert(std::is_trivially_destructible_v<T> && std::is_trivially_copyable_v<T>);
  static_assert(alignof(T) <= 4096);

 public:
  RegionArray() = default;
  explicit RegionArray(size_t count, bool prefault = false)
      : region_(count * sizeof(T), prefault), count_(count) {}

  [[nodiscard]] T* data() const { return static_cast<T*>(region_.data()); }
  [[nodiscard]] size_t size() const { return count_; }
  [[nodiscard]] T& operator[](size_t i) const { return data()[i]; }
  [[nodiscard]] T* begin() const { return data(); }
  [[nodiscard]] T* end() const { return data() + count_; }

 private:
  Region region_;
  size_t count_ = 0;
};

}  // namespace postern
