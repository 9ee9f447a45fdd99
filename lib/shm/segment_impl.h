// What AppSegment owns, for segment.cc and channel.cc only.
#pragma once

#include <unistd.h>

#include <utility>
#include <vector>

#include "shm/segment.h"

namespace postern {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// A sealed memory file and the daemon's mapping of it.
struct MemoryFile {
  MemoryFile() = default;
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();

  void create(const char* name, uint64_t bytes);
  void fault_in(uint64_t offset, uint64_t bytes);
  void seal(unsigned seals);

  Fd fd;
  std::byte* base = nullptr;
  uint64_t size = 0;
};

// A pipe whose ends are separate open file descriptions, so that no flag that the client sets on
// its end changes what the daemon's end does.
struct Doorbell {
  Fd ours;    // the daemon's: non-blocking
  Fd theirs;  // handed to the client, open for reading and writing
};

struct AppSegment::Impl {
  struct Regions {  // offsets of one channel's regions
    uint64_t control_d = 0, events = 0, sockets = 0, rx_pool = 0, figures = 0, errors = 0;
    uint64_t control_c = 0, commands = 0, requests = 0, tx_pool = 0, scratch = 0;
  };
  MemoryFile daemon;
  MemoryFile client;
  std::vector<Regions> regions;
  std::vector<Doorbell> wake_worker;  // ours: read end
  std::vector<Doorbell> wake_client;  // ours: write end
};

}  // namespace postern
