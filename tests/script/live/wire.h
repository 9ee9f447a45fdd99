// The far end of a live script's wire: a host that the kernel knows nothing of, by a packet socket.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/time.h"
#include "wire/segment.h"

namespace postern::script {

// Of CLOCK_MONOTONIC.
Time clock_now();

class Wire {
 public:
  struct Ends {
    std::string interface;  // of this namespace
    IpAddress local;        // Postern's
    IpAddress remote;       // ours
  };
  struct Packet {
    TcpSegment segment;  // sequence numbers as on the wire
    Time at{};
  };

  // Throws std::system_error.
  explicit Wire(Ends ends);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // Has ARP spoken: each end knows the other's MAC. False: Postern did not answer.
  [[nodiscard]] bool meet(Duration patience);
  // Whose packets are taken: those from and to the two ports. Forgets what waits.
  void use_ports(uint16_t local, uint16_t remote);
  // Until then; answers ARP and keeps what Postern sends for next(). True: something waits.
  bool listen_until(Time at, bool until_packet);
  [[nodiscard]] bool empty() const { return waiting_.empty(); }
  Packet next();
  [[nodiscard]] const IpAddress& remote() const { return ends_.remote; }

  void send(const TcpSegment& segment, uint32_t payload_from);
  // An ICMP error (type 3) that quotes a segment of Postern's with that sequence number.
  void send_icmp(uint8_t code, uint16_t mtu, uint32_t seq);

 private:
  void take(const std::byte* frame, size_t length, Time at);
  void answer_arp(const std::byte* frame, size_t length);
  void transmit(const std::vector<std::byte>& frame);

  Ends ends_;
  int fd_ = -1;
  MacAddress own_{{2, 0, 0, 0, 0x50, 0x44}};
  MacAddress peer_{};  // Postern's, once it has said so
  uint16_t local_port_ = 0;
  uint16_t remote_port_ = 0;
  std::deque<Packet> waiting_;
};

}  // namespace postern::script
