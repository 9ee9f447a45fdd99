// Wakes a worker that sleeps; costs a fence and a load when it does not.
//
// Sleeper: arm(); look at every source once more; sleep on fd(); disarm(). Waker: make the work
// visible; ring(). Each side's fence stands between its store and its load, so not both can miss
// the other: either the sleeper sees the work or the waker sees it armed.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <system_error>

namespace postern {

class alignas(64) Bell {
 public:
  // Throws std::system_error.
  Bell() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  ~Bell() { ::close(fd_); }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  // ---- the sleeper ----
  [[nodiscard]] int fd() const noexcept { return fd_; }
  void arm() noexcept {
    armed_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  void disarm() noexcept { armed_.store(false, std::memory_order_relaxed); }
  void clear() noexcept {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t n = ::read(fd_, &count, sizeof(count));
  }

  // ---- anyone ----
  void ring() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (armed_.load(std::memory_order_relaxed) &&
        armed_.exchange(false, std::memory_order_relaxed)) {
      force();
    }
  }
  void force() noexcept {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(fd_, &one, sizeof(one));
  }

 private:
  const int fd_;
  std::atomic<bool> armed_{false};
};

}  // namespace postern
