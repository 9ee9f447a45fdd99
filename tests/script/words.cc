#include "words.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tcp/types.h"

namespace postern::script {
namespace {

const std::map<std::string, int> kErrnos{
    {"EINPROGRESS", EINPROGRESS},   {"EAGAIN", EAGAIN},
    {"ECONNREFUSED", ECONNREFUSED}, {"ECONNRESET", ECONNRESET},
    {"ETIMEDOUT", ETIMEDOUT},       {"EPIPE", EPIPE},
    {"EHOSTUNREACH", EHOSTUNREACH}, {"ENETUNREACH", ENETUNREACH},
    {"ENOTCONN", ENOTCONN},         {"EINVAL", EINVAL},
    {"ENOPROTOOPT", ENOPROTOOPT},   {"ENOENT", ENOENT}};

const std::map<std::string, TcpState> kStates{{"TCP_ESTABLISHED", TcpState::established},
                                              {"TCP_SYN_SENT", TcpState::syn_sent},
                                              {"TCP_SYN_RECV", TcpState::syn_received},
                                              {"TCP_FIN_WAIT1", TcpState::fin_wait_1},
                                              {"TCP_FIN_WAIT2", TcpState::fin_wait_2},
                                              {"TCP_TIME_WAIT", TcpState::time_wait},
                                              {"TCP_CLOSE", TcpState::closed},
                                              {"TCP_CLOSE_WAIT", TcpState::close_wait},
                                              {"TCP_LAST_ACK", TcpState::last_ack},
                                              {"TCP_CLOSING", TcpState::closing}};

bool same_options(const TcpSegment& want, const TcpSegment& got, uint32_t timestamp_ms) {
  const auto off = static_cast<int32_t>(got.ts_value - want.ts_value);
  return got.has_timestamps == want.has_timestamps &&
         (!got.has_timestamps ||
          (static_cast<uint32_t>(std::abs(off)) <= timestamp_ms && got.ts_echo == want.ts_echo));
}

bool same_blocks(const TcpSegment& want, const TcpSegment& got) {
  bool same = got.sack_count == want.sack_count;
  for (int i = 0; same && i < got.sack_count; ++i) {
    same = got.sack[i].left == want.sack[i].left && got.sack[i].right == want.sack[i].right;
  }
  return same;
}

}  // namespace

int errno_number(const std::string& name) {
  if (name.empty()) return 0;
  const auto it = kErrnos.find(name);
  return it == kErrnos.end() ? -1 : it->second;
}

std::string errno_name(int error) {
  for (const auto& [name, value] : kErrnos) {
    if (value == error) return name;
  }
  return std::to_string(error);
}

int state_number(const std::string& name) {
  const auto it = kStates.find(name);
  return it == kStates.end() ? -1 : static_cast<int>(it->second);
}

uint32_t bracketed(const std::string& text) {
  const char* at = text.c_str();
  while (*at == '[') ++at;
  return static_cast<uint32_t>(std::strtoul(at, nullptr, 0));
}

int bracketed_errno(const std::string& text) {
  const int error = errno_number(unquoted(text));
  return error > 0 ? error : static_cast<int>(bracketed(text));
}

std::string unquoted(std::string text) {
  text.erase(std::remove_if(text.begin(), text.end(),
                            [](char c) { return std::strchr("[]\"", c) != nullptr; }),
             text.end());
  return text;
}

bool compare(double left, const std::string& op, double right) {
  return op == "=="   ? left == right
         : op == "!=" ? left != right
         : op == "<=" ? left <= right
         : op == ">=" ? left >= right
         : op == "<"  ? left < right
                      : left > right;
}

std::string differences(const PacketSpec& spec, const TcpSegment& got, uint32_t timestamp_ms) {
  const TcpSegment& want = spec.segment;
  std::string wrong;
  const auto check = [&](bool same, const char* what) {
    if (!same) wrong += wrong.empty() ? what : std::string(", ") + what;
  };
  check(got.flags == want.flags, "flags");
  check(got.seq == want.seq, "sequence number");
  check(got.length == want.length, "length");
  check(!spec.has_ack || got.ack == want.ack, "ack");
  check(!spec.has_window || got.window == want.window, "window");
  check(!spec.has_ecn || got.ecn == want.ecn, "ECN");
  if (spec.any_options) return wrong;
  check(got.has_mss == want.has_mss && (!got.has_mss || got.mss == want.mss), "mss");
  check(got.has_window_scale == want.has_window_scale && got.window_scale == want.window_scale,
        "wscale");
  check(got.sack_permitted == want.sack_permitted, "sackOK");
  check(same_options(want, got, timestamp_ms), "TS");
  check(same_blocks(want, got), "sack");
  return wrong;
}

}  // namespace postern::script
