// Bytes become frames for a whole stack: of every protocol that it speaks, from its neighbors and
// from beyond, close to what it has sent or far from it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "bytes.h"
#include "wire/build.h"
#include "wire/packet.h"

namespace postern {

using Frame = std::vector<std::byte>;

inline const MacAddress kStackMac{{2, 0, 0, 0, 0, 1}};
inline const IpAddress kStackAddress4 = IpAddress::v4(0x0a000001);
inline constexpr uint16_t kStackVlan = 7;

class StackFrames {
 public:
  // The next one. `judged`: its checksums are right, or are to be taken as that.
  Frame make(Bytes& in, bool* judged);
  // What the stack has sent, which later frames answer, quote and repeat.
  void seen(const Frame& frame);

 private:
  struct Flow {
    bool is_v6 = false;
    IpAddress remote, local;
    uint16_t remote_port = 0, local_port = 0;
    uint32_t theirs = 0, ours = 0;  // next sequence numbers
    uint32_t timestamp = 0;
  };
  struct Ends {
    IpAddress source, destination;
  };

  Ends ends(Bytes& in) const;
  Frame ip(Bytes& in, const Ends& ends, uint8_t protocol, uint32_t length, std::byte** l4) const;
  Frame arp(Bytes& in) const;
  Frame tcp(Bytes& in);
  Frame udp(Bytes& in) const;
  Frame echo(Bytes& in) const;
  Frame icmp_error(Bytes& in) const;
  Frame neighbor(Bytes& in) const;
  Frame router(Bytes& in) const;
  Frame group(Bytes& in) const;
  Frame fragment(Bytes& in) const;
  Frame any_protocol(Bytes& in) const;
  const Frame& earlier(Bytes& in) const { return sent_[in.byte() % sent_.size()]; }

  std::array<Flow, 8> flows_{};
  std::array<Frame, 8> sent_{};
  size_t next_flow_ = 0, next_sent_ = 0;
};

}  // namespace postern
