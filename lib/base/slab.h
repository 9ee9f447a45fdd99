// A fixed pool of objects named by index and generation. All memory is taken at construction; from
// then on creation, destruction and lookup are O(1) and touch the allocator no more.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include "base/region.h"

namespace postern {

inline constexpr uint32_t kNoIndex = UINT32_MAX;

// Names one life of one object. A handle kept past the object's life is stale, never another's,
// until its cell has been reused 2^31 times. The default handle is always stale.
struct SlabHandle {
  uint32_t index = kNoIndex;
  uint32_t generation = 0;
  friend constexpr bool operator==(const SlabHandle&, const SlabHandle&) = default;
};

// Not thread-safe: one owner. Addresses and indices of objects are stable for their life. The
// destructor destroys what is still alive.
template <class T>
class Slab {
 public:
  // Room for `capacity` objects, at most 2^32 - 2. Throws std::bad_alloc.
  explicit Slab(uint32_t capacity, bool prefault = false)
      : cells_(size_t{capacity} * sizeof(T), prefault), marks_(capacity, prefault) {
    static_assert(alignof(T) <= 4096);
    assert(capacity != kNoIndex);
  }
  ~Slab() {
    for_each([this](T& object) { destroy(&object); });
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // Constructs a T in the cell freed last (it is the warmest). nullptr: full.
  template <class... Args>
  [[nodiscard]] T* create(Args&&... args) noexcept {
    static_assert(std::is_nothrow_constructible_v<T, Args...>, "a worker cannot unwind");
    const uint32_t index = take_cell();
    if (index == kNoIndex) return nullptr;
    ++marks_[index].generation;
    ++size_;
    return new (cell(index)) T(std::forward<Args>(args)...);
  }

  // Destroys an object of this slab; its handle is stale from here on.
  void destroy(T* object) noexcept {
    const uint32_t index = index_of(object);
    assert(is_live(index));
    object->~T();
    ++marks_[index].generation;
    marks_[index].next_free = free_head_;
    free_head_ = index;
    --size_;
  }

  // nullptr if the handle is stale or was never valid: safe with any two words from outside.
  [[nodiscard]] T* get(SlabHandle handle) const noexcept {
    if (handle.index >= high_water_ || (handle.generation & 1) == 0) return nullptr;
    return marks_[handle.index].generation == handle.generation ? cell(handle.index) : nullptr;
  }
  [[nodiscard]] T* get(uint32_t index, uint32_t generation) const noexcept {
    return get(SlabHandle{index, generation});
  }

  // The live object at an index, or nullptr.
  [[nodiscard]] T* at(uint32_t index) const noexcept {
    return index < high_water_ && is_live(index) ? cell(index) : nullptr;
  }
  // The same without looking: the caller knows that the object lives.
  [[nodiscard]] T& operator[](uint32_t index) const noexcept { return *cell(index); }
  void prefetch(uint32_t index) const noexcept { __builtin_prefetch(cell(index)); }

  [[nodiscard]] uint32_t index_of(const T* object) const noexcept {
    return static_cast<uint32_t>(object - cell(0));
  }
  [[nodiscard]] SlabHandle handle_of(const T* object) const noexcept {
    const uint32_t index = index_of(object);
    return {index, marks_[index].generation};
  }

  [[nodiscard]] uint32_t size() const noexcept { return size_; }
  [[nodiscard]] uint32_t capacity() const noexcept { return static_cast<uint32_t>(marks_.size()); }
  [[nodiscard]] bool full() const noexcept { return size_ == capacity(); }
  // No live object has this index or a higher one: the bound for loops over at().
  [[nodiscard]] uint32_t high_water() const noexcept { return high_water_; }

  // Calls f(T&) for each live object in index order. f may destroy the object it is given.
  template <class F>
  void for_each(F&& f) {
    for (uint32_t i = 0; i < high_water_; ++i) {
      if (is_live(i)) f(*cell(i));
    }
  }

 private:
  struct Mark {
    uint32_t generation;  // odd while the cell holds an object
    uint32_t next_free;   // meaningful in a free cell below high_water_
  };

  [[nodiscard]] T* cell(uint32_t index) const noexcept {
    return std::launder(static_cast<T*>(cells_.data()) + index);
  }
  [[nodiscard]] bool is_live(uint32_t index) const noexcept {
    return (marks_[index].generation & 1) != 0;
  }
  uint32_t take_cell() noexcept {
    if (free_head_ != kNoIndex) {
      const uint32_t index = free_head_;
      free_head_ = marks_[index].next_free;
      return index;
    }
    return high_water_ < capacity() ? high_water_++ : kNoIndex;
  }

  Region cells_;
  RegionArray<Mark> marks_;
  uint32_t free_head_ = kNoIndex;
  uint32_t high_water_ = 0;  // cells from here on were never used
  uint32_t size_ = 0;
};

}  // namespace postern
