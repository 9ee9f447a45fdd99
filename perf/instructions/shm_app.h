// An application on the other side of the shared memory, by hand and in the same thread: takes
// events, gives commands, and does with payload what its mode says. Its instructions are not
// counted; only what the worker does for it is.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/worker.h"
#include "shm/channel.h"
#include "shm/segment.h"

namespace postern::perf {

enum class AppMode : uint8_t { echo, sink, source };

class ShmApp {
 public:
  static constexpr AppId kId = 0;
  static constexpr uint32_t kRing = 128 << 10;  // bytes of transmit memory per socket

  ShmApp(Worker& worker, AppMode mode);
  ~ShmApp();
  ShmApp(const ShmApp&) = delete;
  ShmApp& operator=(const ShmApp&) = delete;

  void listen(const Endpoint& local);
  void bind_udp(const Endpoint& local);
  // Takes all events there are and answers them.
  void serve();

  [[nodiscard]] uint64_t received() const { return received_; }  // payload bytes; UDP: datagrams
  [[nodiscard]] uint64_t sent() const { return sent_; }          // payload bytes
  [[nodiscard]] uint64_t accepted() const { return accepted_; }
  [[nodiscard]] uint64_t released() const { return released_; }

 private:
  struct Socket {
    uint32_t generation = 0;
    bool datagram = false;
    uint32_t unit = 0;
    uint32_t offset = 0;
    uint32_t rx_head = 0, rx_tail = 0;
    uint32_t tx_tail = 0, tx_acked = 0;
  };
  template <class T>
  T* region(uint32_t kind);
  shm_command& next_command(uint8_t op, uint32_t slot);
  void submit();
  void on_event(const shm_event& event);
  void on_update(const shm_event& event, Socket& socket);
  void read_stream(uint32_t slot, Socket& socket);
  void read_datagrams(uint32_t slot, Socket& socket);
  void send_back(uint32_t slot, Socket& socket, const shm_datagram& header, uint32_t payload);
  void copy_out(Socket& socket, std::byte* out, uint32_t length);
  void write(uint32_t slot, Socket& socket, uint32_t length);
  void fill(uint32_t slot, Socket& socket);

  Worker& worker_;
  AppMode mode_;
  std::unique_ptr<AppSegment> segment_;
  std::unique_ptr<Channel> channel_;
  std::byte* ours_;
  std::byte* theirs_;
  shm_command* commands_;
  const shm_event* events_;
  shm_channel_client* control_;
  std::byte* tx_pool_;
  const std::byte* rx_pool_;
  uint32_t command_index_ = 0;
  uint32_t event_index_ = 0;
  uint64_t received_ = 0, sent_ = 0, accepted_ = 0, released_ = 0;
  std::vector<Socket> sockets_;
};

}  // namespace postern::perf
