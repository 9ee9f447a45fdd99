// The daemon's side of the shared memory, by hand: it accepts one application and gives it
// connections, requests and acknowledgements when it is told to. A thread of its own serves the
// session and nothing else, so that an application in the same process meets the same instructions
// every time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shm/channel.h"
#include "shm/segment.h"

namespace postern::perf {

class ShmDaemon {
 public:
  static constexpr uint32_t kConnections = 64;  // at a time

  // The application attaches at path(). Made by new: it lasts as long as the process.
  ShmDaemon();
  ~ShmDaemon() = delete;
  ShmDaemon(const ShmDaemon&) = delete;
  ShmDaemon& operator=(const ShmDaemon&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  // New connections for the listener that the application has made last. Nothing more happens to
  // older ones.
  void connect_all();
  // One request on a connection; what the application has sent there is acknowledged.
  void request(uint32_t connection, uint32_t length);
  // Takes the application's commands. Throws where it breaks the contract.
  void take_commands();
  // Bytes that the application has sent on all connections.
  [[nodiscard]] uint64_t sent() const { return sent_; }

 private:
  struct Connection {
    uint32_t rx_tail = 0;
    uint32_t rx_head = 0;
    uint32_t tx_tail = 0;
  };
  void serve();
  void attach(int session);
  void push(const shm_event& event);

  std::string directory_;
  std::string path_;
  int listen_fd_;
  std::unique_ptr<AppSegment> segment_;
  std::unique_ptr<Channel> channel_;
  shm_handle listener_{};
  uint32_t first_slot_ = 0;  // of the connections
  std::vector<Connection> connections_;
  uint64_t sent_ = 0;
};

}  // namespace postern::perf
