// The two sealed memory files of one application, as the daemon makes them. Control thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/shmsock.h"

namespace postern {

struct SegmentOptions {
  uint32_t channels = 1;            // one per worker
  uint32_t slots = 65536;           // per channel, power of two
  uint32_t client_slots = 16384;    // of them, opened by the client
  uint32_t command_entries = 4096;  // powers of two
  uint32_t event_entries = 4096;
  uint64_t rx_pool_bytes = 64 << 20;  // per channel, multiple of 64 KiB
  uint64_t tx_pool_bytes = 64 << 20;  // per channel, multiple of 64 KiB
  shm_settings settings{};            // told to the client
};

// Owns the memory files, their mappings and the doorbells. create() throws std::system_error when
// the kernel refuses and std::invalid_argument when the options do not fit together. The geometry
// the daemon works with is held here, never re-read from shared memory.
class AppSegment {
 public:
  static std::unique_ptr<AppSegment> create(const SegmentOptions& options);
  ~AppSegment();
  AppSegment(const AppSegment&) = delete;
  AppSegment& operator=(const AppSegment&) = delete;

  [[nodiscard]] const SegmentOptions& options() const { return options_; }
  [[nodiscard]] int daemon_fd() const;  // to hand to the client
  [[nodiscard]] int client_fd() const;  // to hand to the client
  [[nodiscard]] uint64_t daemon_size() const;
  [[nodiscard]] uint64_t client_size() const;
  // The ends of the doorbells that the client gets. The daemon must neither read nor write them
  // (the client shares their file status flags): its own ends are in Channel.
  [[nodiscard]] int worker_doorbell(uint32_t channel) const;  // rings the worker
  [[nodiscard]] int client_doorbell(uint32_t channel) const;  // wakes the client

  // Tells the client why it ends; then wakes it on every channel. May be called by any thread,
  // once.
  void set_state(shm_state state, std::string_view reason);

 private:
  friend class Channel;
  AppSegment() = default;
  SegmentOptions options_;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern
