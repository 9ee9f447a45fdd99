// How an idle worker sleeps: until a packet, a doorbell, the mailbox, or a time.
#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"
#include "dataplane/bell.h"
#include "dpdk/port.h"

namespace postern {

class Sleeper {
 public:
  // `ports` of which the worker polls queue `queue`. Throws std::system_error.
  Sleeper(const std::vector<Port*>& ports, uint16_t queue, Bell& bell, Duration longest_nap);
  ~Sleeper();
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  // ---- inside a call of the control thread: may make system calls ----
  void add_doorbell(int fd) noexcept;
  void remove_doorbell(int fd) noexcept;

  // ---- worker ----
  // From now on packets and the bell wake; the caller looks at every source once more.
  void arm() noexcept;
  void disarm() noexcept;
  // Between arm() and disarm(). A device that cannot wake makes it a nap that grows from
  // kShortestNap to `longest_nap` while nothing happens.
  void sleep(Duration longest) noexcept;
  void woken_by_work() noexcept { nap_ = kShortestNap; }

  static constexpr Duration kShortestNap = 20us;

 private:
  enum class Source : uint32_t { bell, level, event, doorbell };
  void add(int fd, Source source) noexcept;

  int epoll_ = -1;
  Bell& bell_;
  struct Interrupt {
    const Port* port;
    uint16_t queue;
    bool armed;
  };
  std::vector<Interrupt> interrupts_;
  bool deaf_ = false;  // some queue wakes nobody
  const Duration longest_nap_;
  Duration nap_ = kShortestNap;
};

}  // namespace postern
