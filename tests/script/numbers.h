// Between the numbers of a script and those on the wire: a script counts sequence numbers from each
// side's SYN, and timestamps from the first one of the side under test.
#pragma once

#include <cstdint>
#include <map>

#include "script.h"

namespace postern::script {

class Numbers {
 public:
  // A line's packet that arrives, as it is on the wire.
  [[nodiscard]] TcpSegment to_wire(const PacketSpec& packet) const;
  // A packet that was sent, as the script counts.
  [[nodiscard]] PacketSpec to_script(const TcpSegment& sent) const;
  // A SYN tells the sequence number; the first timestamp, how far the script's are off.
  void learn(const TcpSegment& sent, const TcpSegment& want);
  [[nodiscard]] uint32_t isn() const { return isn_; }

 private:
  // Both close to the wrap, so that every script of some length crosses it.
  uint32_t isn_ = 0xfffff000;  // until a SYN says another
  uint32_t remote_isn_ = 0xffffff00;
  uint32_t ts_shift_ = 0;
  bool ts_known_ = false;
  std::map<uint32_t, uint32_t> sent_ts_;  // as the script has it -> as it was
};

}  // namespace postern::script
