// The application side of the measured daemon, hosted by the load generator's thread: on a machine
// with two cores the daemon's worker has one, and generator and application take turns on the
// other.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "options.h"

struct postern_queue;

namespace postern::perf {

struct HostCounters {
  uint64_t connections = 0;  // accepted
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t datagrams_in = 0;
  uint64_t datagrams_out = 0;
  uint64_t errors = 0;  // connections that failed, datagrams that could not be sent
};

class HostApp {
 public:
  // Attaches to the daemon and opens the services, all of one family. Throws std::runtime_error.
  HostApp(const std::vector<HostedService>& services, const std::string& app_socket, bool v6);
  ~HostApp();
  HostApp(const HostApp&) = delete;
  HostApp& operator=(const HostApp&) = delete;

  // Serves what is ready, without waiting. Returns how many sockets were. Throws when the daemon is
  // gone.
  unsigned step();

  const HostCounters& counters() const { return counters_; }

 private:
  struct Socket {
    int fd = -1;
    HostedService::Kind kind{};
    bool tcp = true;
    bool listening = false;
    bool writing = false;         // waits for room instead of data
    std::vector<uint8_t> held{};  // echo: what the peer does not take yet
    size_t held_from = 0;
  };

  void open(const HostedService& service);
  void add(Socket socket);
  void wait_for(Socket& s, bool writing);
  void close(Socket& s, bool failed);
  void serve(Socket& s);
  void accept_some(const Socket& listener);
  void serve_stream(Socket& s);
  void serve_datagrams(Socket& s);
  void send_datagrams(int fd, size_t count);
  void make_room(size_t message);
  void flush(Socket& s);
  void pour(Socket& s);

  postern_queue* queue_ = nullptr;
  std::vector<std::unique_ptr<Socket>> sockets_;  // by descriptor
  std::vector<uint8_t> buffer_;                   // kBurst datagrams, or the bytes of a stream
  std::vector<mmsghdr> messages_;
  std::vector<iovec> parts_;
  std::vector<sockaddr_storage> peers_;
  HostCounters counters_;
  const bool v6_;
};

}  // namespace postern::perf
