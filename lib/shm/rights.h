// What an application may do without asking the control thread first. Written by the control
// thread, read by workers when a connection is opened; nothing the client can write comes in.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace postern {

class AppRights {
 public:
  // connect: whether it may open TCP connections.
  explicit AppRights(bool connect) : connect_(connect) {}

  [[nodiscard]] bool may_connect() const noexcept { return connect_; }
  // Whether it has the TCP port reserved, and may thus open connections from it. Any thread.
  [[nodiscard]] bool holds_port(uint16_t port) const noexcept {
    return (ports_[port / 64].load(std::memory_order_relaxed) >> (port % 64) & 1) != 0;
  }
  // Control thread only.
  void set_port(uint16_t port, bool held) noexcept {
    std::atomic<uint64_t>& word = ports_[port / 64];
    const uint64_t bit = uint64_t{1} << (port % 64);
    const uint64_t old = word.load(std::memory_order_relaxed);
    word.store(held ? old | bit : old & ~bit, std::memory_order_relaxed);
  }

 private:
  const bool connect_;
  std::array<std::atomic<uint64_t>, 1024> ports_{};
};

}  // namespace postern
