// What one run did to each engine, as packet scripts of tests/script: one a side. Written line by
// line to a file, so that it is there even if the engine aborts.
#pragma once

#include <cstdio>

#include "network.h"

namespace postern::sim {

class Recorder : public Observer {
 public:
  // Lines "0 text" and "1 text" for the two scripts; "fate ..." lines, which read_fate() reads.
  // `scripts`: whether to write more than the fates.
  Recorder(FILE* out, const Options& options, bool scripts);

  void fate(int side, uint64_t number, const Fate& fate) override;
  void call(int side, Duration at, const std::string& text) override;
  void segment(int side, Duration at, const TcpSegment& segment, bool outbound) override;
  void too_long(int side, Duration at, const TcpSegment& quoted, uint16_t mss) override;
  // No line for what has no line: time that passed until here.
  void end(int side, Duration at);

 private:
  struct End {
    bool sent = false, heard = false;  // own SYN, the peer's SYN
    uint32_t isn = 0;
    uint32_t peer_isn = 0;
    bool clock = false;
    uint32_t first_ts = 0;
    Duration last{};
  };
  void line(int side, Duration at, const std::string& text);
  void begin(int side, const Options& options);
  [[nodiscard]] TcpSegment relative(int side, const TcpSegment& segment, bool outbound);

  FILE* out_;
  bool scripts_;
  End ends_[2];
};

// Of a line that begins "fate"; false if it is none.
bool read_fate(const std::string& line, Fates& fates);

}  // namespace postern::sim
