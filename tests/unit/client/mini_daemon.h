// A daemon in a thread of the test: real segments, channels and doorbells, and a network that is
// one loop. What a socket sends arrives at the socket of the same application that it is connected
// to; datagrams go to whoever is bound to the port. No address but 10.0.0.1 and 10.0.0.2 exists.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "shm/channel.h"
#include "shm/segment.h"

namespace postern::test {

inline shm_settings mini_settings() {
  shm_settings settings{};
  settings.receive_buffer = 1 << 20;
  for (const char* name : {"cubic", "newreno", "dctcp"}) {
    strcpy(settings.congestion_names[settings.congestion_count++], name);
  }
  return settings;
}

struct MiniOptions {
  SegmentOptions segment{.channels = 1,
                         .slots = 256,
                         .client_slots = 128,
                         .command_entries = 256,
                         .event_entries = 256,
                         .rx_pool_bytes = 4 << 20,
                         .tx_pool_bytes = 4 << 20,
                         .settings = mini_settings()};
  uint32_t receive_buffer = 256 << 10;  // bytes a socket may have unread
  int attach_error = 0;                 // refuse with this errno
  std::string attach_message;
};

class MiniDaemon {
 public:
  explicit MiniDaemon(MiniOptions options = {});
  ~MiniDaemon();
  MiniDaemon(const MiniDaemon&) = delete;
  MiniDaemon& operator=(const MiniDaemon&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

  // While held, nothing that was sent moves: no acknowledgement, no delivery.
  void hold(bool on) {
    on_loop([this, on] { held_ = on; });
  }
  // Ends the application as for a broken contract.
  void evict(const std::string& reason);
  // Closes the session without a word, as a killed daemon does, and stops looking at the rings.
  void die();
  // Resets every connection from the network's side.
  void reset_connections();

  struct Stats {
    uint32_t rx_units_used = 0;  // all channels
    uint64_t received_commands = 0;
    uint64_t send_commands = 0;
    uint32_t sockets = 0;
    uint32_t bindings = 0;
    uint32_t most_extents = 0;  // of one socket at once
    std::string violation;
  };
  Stats stats();

 private:
  struct Socket;
  struct Link;  // one channel of the attached application
  using SocketPtr = std::shared_ptr<Socket>;
  struct Binding {
    uint8_t protocol = 0;
    uint16_t port = 0;
    bool listening = false;
    uint32_t backlog = 0;
    std::vector<shm_handle> handles;
  };

  void on_loop(std::function<void()> f);  // runs it in the loop's thread and waits
  void run();
  bool turn();
  void sleep();
  void accept_session();
  bool read_session();
  void attach(const shm_attach_request& request);
  void answer(const shm_bind_request& request);
  uint32_t bind(const shm_bind_request& request, shm_bind_reply* reply);
  void detach();

  bool drain(Link& link);
  void execute(Link& link, const shm_command& command);
  void connect(Link& link, const SocketPtr& socket, const shm_request& request);
  void mark_urgent(Socket& s);
  void send_datagram(Link& link, const SocketPtr& socket, const shm_command& command);
  bool move(const SocketPtr& socket);
  bool move_stream(const SocketPtr& socket);
  void deliver(Socket& to, const void* bytes, uint32_t length);
  void consume(Socket& socket, uint32_t rx_head);
  void drop_chain(Socket& socket);
  void finish_close(const SocketPtr& socket);
  void fail(Socket& socket, int error);
  void publish();
  void push(Link& link, const shm_event& event, bool urgent);
  SocketPtr find(Link& link, uint32_t slot, uint32_t generation);
  SocketPtr open(Link& link, uint32_t slot, uint32_t generation, uint8_t protocol);
  void describe(const Socket& socket);
  const Binding* bound(uint8_t protocol, uint16_t port) const;

  MiniOptions options_;
  std::string directory_;
  std::string path_;
  int listen_fd_ = -1;
  int session_fd_ = -1;
  int wake_fd_ = -1;
  bool held_ = false;
  bool dead_ = false;
  std::unique_ptr<AppSegment> segment_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<SocketPtr> sockets_;
  std::map<uint32_t, Binding> bindings_;
  uint32_t next_binding_ = 1;
  uint16_t next_port_ = 40000;
  uint32_t turn_of_links_ = 0;
  Stats counted_;
  std::mutex mutex_;
  std::vector<std::function<void()>> calls_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace postern::test
