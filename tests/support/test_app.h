// An application as the stack sees it, without shared memory: keeps the receive cursor, the
// transmit ring and the slot states as the client library does, and checks that the stack keeps
// its side of lib/abi/shmsock.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stack/stack.h"

namespace postern::test {

struct Datagram {
  Endpoint from;
  IpAddress to;
  std::vector<std::byte> payload;
};

class TestApp {
 public:
  struct Options {
    AppId id = 0;
    uint32_t rx_units = 1024;  // 2 MiB
    uint32_t slots = 160;
    uint32_t client_slots = 80;
    uint32_t tx_ring = 1 << 16;  // bytes of transmit memory per socket
  };
  struct Socket {
    SocketRef ref;
    bool datagram = false;
    bool connected = false;
    bool eof = false;
    bool released = false;
    bool closed = false;
    int error = 0;
    uint32_t rx_head = 0;
    uint32_t rx_tail = 0;
    uint32_t unit = 0;
    uint32_t offset = 0;
    uint32_t tx_tail = 0;
    uint32_t tx_acked = 0;
    std::deque<SocketRef> accepted;
    [[nodiscard]] uint32_t unread() const { return rx_tail - rx_head; }
    [[nodiscard]] uint32_t outstanding() const { return tx_tail - tx_acked; }
  };

  TestApp(Stack& stack, const Options& options);

  // What publish() calls: false refuses the event, as a full ring does.
  bool on_event(const AppEvent& event);
  bool refuse_events = false;

  // ---- sockets. Names are slots. ----
  SocketRef open(Time now);  // a free client slot with a fresh generation
  int connect(SocketRef ref, const Endpoint& remote, Time now, const Endpoint& local = {});
  SocketRef listen(const Endpoint& local, uint32_t backlog);
  SocketRef bind(const Endpoint& local);
  std::optional<SocketRef> accept(SocketRef listener, Time now);
  int close(SocketRef ref, Time now, bool abort = false);

  // Appends the bytes as far as the transmit ring has room; returns how many.
  size_t write(SocketRef ref, const std::byte* bytes, size_t n, Time now, bool more = false);
  int send_to(SocketRef ref, const Endpoint& to, const std::vector<std::byte>& payload, Time now);
  // Reads up to n bytes and reports them as consumed.
  size_t read(SocketRef ref, std::byte* out, size_t n, Time now);
  std::optional<Datagram> receive_from(SocketRef ref, Time now);

  Socket& operator[](SocketRef ref);
  [[nodiscard]] bool has(SocketRef ref) const;
  [[nodiscard]] SocketRef next_client_slot();
  [[nodiscard]] const std::string& complaint() const { return complaint_; }
  [[nodiscard]] uint64_t events() const { return events_; }
  [[nodiscard]] AppId id() const { return options_.id; }
  [[nodiscard]] const AppMemory& memory() const { return memory_; }

 private:
  void complain(const std::string& what);
  void copy_out(Socket& socket, std::byte* out, size_t n);
  [[nodiscard]] uint64_t ring_of(uint32_t slot) const { return uint64_t{slot} * options_.tx_ring; }

  Stack& stack_;
  Options options_;
  std::vector<uint64_t> rx_, tx_, book_;
  AppMemory memory_;
  std::map<uint32_t, Socket> sockets_;  // by slot
  std::map<uint32_t, uint32_t> generations_;
  uint32_t next_slot_ = 0;
  uint64_t events_ = 0;
  std::string complaint_;
};

}  // namespace postern::test
