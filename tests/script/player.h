// Plays a script against one TCP engine in virtual time.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "numbers.h"
#include "script.h"
#include "tcp/connection.h"
#include "verdict.h"

namespace postern::script {

class Player {
 public:
  explicit Player(const Script& script);
  // Empty: the engine did what the script says. Else "path:line: what", with expected and actual.
  std::string run();

 private:
  struct Sent {
    TcpSegment segment;
    Time at;
  };

  void apply_settings();
  void play(const Event& e);
  void advance(Time to);
  void drain();
  void collect_events();
  void inbound(const Event& e);
  void outbound(const Event& e);
  void assertion(const Event& e);
  void icmp(const Event& e);
  void call(const Event& e);
  void call_setsockopt(const Event& e);
  void call_getsockopt(const Event& e);
  long do_read(const Event& e, int& error);
  long do_write(const Event& e, int& error);
  void start_over();
  void open(bool active, const TcpSegment* syn);
  double value(const Event& e, const std::string& name);
  TcpContext context();

  const Script& script_;
  Verdict verdict_;
  Numbers numbers_;
  TcpConfig config_;
  Counters counters_;
  TcpRangePool pool_{1024};
  std::unique_ptr<TcpConnection> tcp_ = std::make_unique<TcpConnection>();
  Time now_{};
  Time base_{};  // script time 0
  Duration tolerance_ = 1ms;
  uint32_t ts_offset_ = 0x7ffffff0;
  uint16_t mss_ = 1460;
  uint32_t burst_ = 0;
  uint32_t memory_ = 1 << 26;
  std::deque<Sent> sent_;
  bool listening_ = false;
  bool opened_ = false;
  bool connected_ = false;
  bool peer_fin_ = false;
  bool failed_ = false;
  bool error_taken_ = false;
  bool released_ = false;
  bool finished_ = false;
  bool shut_ = false;
  uint32_t consumed_ = 0;
  uint32_t stored_to_ = 0;
};

}  // namespace postern::script
