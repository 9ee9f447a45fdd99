#include "recorder.h"

#include "script/script.h"

namespace postern::sim {

namespace {

constexpr uint32_t kFirstTimestamp = 1000;  // of each side, as its script counts

std::string microseconds(Duration d) { return std::to_string(d.count() / 1000) + "us"; }

}  // namespace

Recorder::Recorder(FILE* out, const Options& options, bool scripts) : out_(out), scripts_(scripts) {
  for (int side = 0; side < 2; ++side) begin(side, options);
}

void Recorder::begin(int side, const Options& o) {
  const TcpConfig& c = o.config[side];
  const AppOptions& app = o.app[side];
  const auto set = [&](const char* name, const std::string& value) {
    if (scripts_) std::fprintf(out_, "%d --%s=%s\n", side, name, value.c_str());
  };
  set("tolerance_usecs", "1");
  set("rto_initial", microseconds(c.rto_initial));
  set("rto_min", microseconds(c.rto_min));
  set("rto_max", microseconds(c.rto_max));
  set("delayed_ack", microseconds(c.delayed_ack));
  set("time_wait", microseconds(c.time_wait));
  set("timestamps", std::to_string(c.timestamps));
  set("sack", std::to_string(c.sack));
  set("window_scaling", std::to_string(c.window_scaling));
  set("ecn", std::to_string(c.ecn));
  set("congestion", std::string(kCongestionNames[c.congestion]));
  set("initial_window", std::to_string(c.initial_window));
  set("receive_buffer", std::to_string(c.receive_buffer));
  set("receive_buffer_max", std::to_string(c.receive_buffer_max));
  set("retries", std::to_string(c.retries));
  set("orphan_retries", std::to_string(c.orphan_retries));
  set("syn_retries", std::to_string(c.syn_retries));
  set("syn_ack_retries", std::to_string(c.syn_ack_retries));
  set("receive_memory", std::to_string(app.receive_memory));
  set("ranges", std::to_string(o.pool));
  set("mss", std::to_string(o.link[side].mss));
  if (app.burst != 0) set("burst", std::to_string(app.burst));
  line(side, {}, "socket(..., SOCK_STREAM, IPPROTO_TCP) = 3");
  if (side == 1 && !o.simultaneous_open) {
    line(side, {}, "bind(3, ..., ...) = 0");
    line(side, {}, "listen(3, 1) = 0");
  }
  if (app.nodelay) line(side, {}, "setsockopt(3, IPPROTO_TCP, TCP_NODELAY, [1], 4) = 0");
}

void Recorder::line(int side, Duration at, const std::string& text) {
  if (!scripts_) return;
  ends_[side].last = at;
  std::fprintf(out_, "%d %.9f %s\n", side, std::chrono::duration<double>(at).count(), text.c_str());
  std::fflush(out_);
}

void Recorder::fate(int side, uint64_t number, const Fate& f) {
  std::fprintf(out_, "fate %d %llu %d %d %lld\n", side, static_cast<unsigned long long>(number),
               f.lost ? 1 : 0, f.twice ? 1 : 0, static_cast<long long>(f.late.count()));
  std::fflush(out_);
}

bool read_fate(const std::string& line, Fates& fates) {
  int side = 0;
  unsigned long long number = 0;
  int lost = 0;
  int twice = 0;
  long long late = 0;
  if (std::sscanf(line.c_str(), "fate %d %llu %d %d %lld", &side, &number, &lost, &twice, &late) !=
      5) {
    return false;
  }
  fates.of[side & 1][number] = {lost != 0, twice != 0, Duration(late)};
  return true;
}

void Recorder::call(int side, Duration at, const std::string& text) { line(side, at, text); }

// As scripts count: from each side's SYN, own timestamps from the first one.
TcpSegment Recorder::relative(int side, const TcpSegment& segment, bool outbound) {
  End& e = ends_[side];
  TcpSegment s = segment;
  if ((s.flags & tcp_flag::syn) != 0) {
    (outbound ? e.sent : e.heard) = true;
    (outbound ? e.isn : e.peer_isn) = s.seq;
  }
  if (outbound && s.has_timestamps && !e.clock) {
    e.clock = true;
    e.first_ts = s.ts_value;
  }
  const uint32_t mine = outbound ? e.isn : e.peer_isn;
  const uint32_t other = outbound ? e.peer_isn : e.isn;
  s.seq -= mine;
  if ((s.flags & tcp_flag::ack) != 0) s.ack -= other;
  for (int i = 0; i < s.sack_count; ++i) {
    s.sack[i].left -= other;
    s.sack[i].right -= other;
  }
  uint32_t& own = outbound ? s.ts_value : s.ts_echo;
  if (s.has_timestamps && (outbound || own != 0)) own -= e.first_ts - kFirstTimestamp;
  return s;
}

void Recorder::segment(int side, Duration at, const TcpSegment& segment, bool outbound) {
  if (!scripts_) return;
  script::PacketSpec packet;
  packet.segment = relative(side, segment, outbound);
  line(side, at, script::to_string(packet, outbound));
}

void Recorder::too_long(int side, Duration at, const TcpSegment& quoted, uint16_t mss) {
  const uint32_t seq = quoted.seq - ends_[side].isn;
  const std::string range = std::to_string(seq) + ":" + std::to_string(seq + quoted.length) + "(" +
                            std::to_string(quoted.length) + ")";
  line(side, at,
       "< icmp unreachable frag_needed mtu " + std::to_string(mss + 40) + " [" + range + "]");
}

void Recorder::end(int side, Duration at) { line(side, at, "%{ assert tcpi_state >= 0 }%"); }

}  // namespace postern::sim
