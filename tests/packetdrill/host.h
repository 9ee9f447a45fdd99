// A host for packetdrill: one whole stack in real time, one application on it, and a wire whose
// other end packetdrill holds. Ethernet ends here: packetdrill speaks IP, ARP is answered for
// every address.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/test_app.h"

namespace postern::packetdrill {

struct Settings {
  IpAddress local = IpAddress::v4(0xc0a80002);  // unless the first bind or packet names another
  uint16_t mtu = 1500;
  Duration wait = 20s;  // for a packet that a script expects
  TcpConfig tcp;
};

// "local=192.168.0.2,mtu=1500,wait=20,congestion=newreno,ecn=1,..."; throws std::invalid_argument.
Settings parse_settings(const char* flags);

class Host {
 public:
  explicit Host(const Settings& settings);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  static constexpr uint32_t kSendBuffer = 1 << 18;  // bytes a socket

  // Everything below is called with this lock held.
  using Lock = std::unique_lock<std::mutex>;
  [[nodiscard]] Lock lock() { return Lock(mutex_); }

  // packetdrill without --local_ip invents an address for each run and tells it only by what it
  // binds to or sends to: a stack that nothing has used yet is built anew with that one.
  void use_address(const IpAddress& local);
  [[nodiscard]] const IpAddress& local() const { return settings_.local; }
  [[nodiscard]] Stack& stack() { return *stack_; }
  [[nodiscard]] test::TestApp& app() { return *app_; }
  static Time now();

  // After each operation: lets the stack send and tell what there is.
  void turn();
  // Waits until `done` holds; false: not by `deadline`.
  template <class Done>
  bool wait(Lock& lock, Time deadline, Done&& done) {
    while (!done()) {
      if (now() >= deadline) return false;
      sleep_until(lock, deadline);
    }
    return true;
  }

  struct Packet {
    std::vector<std::byte> bytes;  // from the IP header on
    long long time_usecs = 0;
  };
  void receive(const void* packet, size_t length);
  std::optional<Packet> next_packet(Lock& lock);

 private:
  void build();
  void sleep_until(Lock& lock, Time deadline);
  void run_timers();
  void from_stack(const TxFrame& frame);
  void to_stack(const std::vector<std::byte>& frame);
  void answer_arp(const TxFrame& frame);

  Settings settings_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<Stack> stack_;
  std::unique_ptr<test::TestApp> app_;
  std::deque<Packet> sent_;
  std::vector<std::byte> memory_;
  std::thread timers_;
  bool used_ = false;  // the address stays
  bool ending_ = false;
};

}  // namespace postern::packetdrill
