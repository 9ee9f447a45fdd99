// Socket options, and TCP_INFO for the assertions of scripts.
#include <linux/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "sockets.h"
#include "tcp/congestion.h"

namespace postern::packetdrill {
namespace {

int fail(int error) {
  errno = error;
  return -1;
}

const std::map<int, SocketOption>& socket_options() {
  static const std::map<int, SocketOption> all{{SO_KEEPALIVE, SocketOption::keepalive},
                                               {SO_RCVBUF, SocketOption::receive_buffer},
                                               {SO_SNDBUF, SocketOption::send_buffer}};
  return all;
}

const std::map<int, SocketOption>& tcp_options() {
  static const std::map<int, SocketOption> all{{TCP_NODELAY, SocketOption::nodelay},
                                               {TCP_CORK, SocketOption::cork},
                                               {TCP_KEEPIDLE, SocketOption::keepalive_idle},
                                               {TCP_KEEPINTVL, SocketOption::keepalive_interval},
                                               {TCP_KEEPCNT, SocketOption::keepalive_probes},
                                               {TCP_USER_TIMEOUT, SocketOption::user_timeout},
                                               {TCP_MAXSEG, SocketOption::max_segment},
                                               {TCP_QUICKACK, SocketOption::quick_ack},
                                               {TCP_DEFER_ACCEPT, SocketOption::defer_accept}};
  return all;
}

uint32_t microseconds(Duration d) {
  return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(d).count());
}

}  // namespace

// Options set before connect() and listen() are kept until there is a socket in the stack.
int Sockets::set(Open& s, SocketOption option, uint32_t value) {
  s.options[option] = value;
  if (!s.exists) return 0;
  const int error =
      host_.stack().set_option(s.ref, static_cast<uint16_t>(option), value, Host::now());
  host_.turn();
  return error == 0 ? 0 : fail(error);
}

void Sockets::apply_options(Open& s) {
  for (const auto& [option, value] : s.options) {
    (void)host_.stack().set_option(s.ref, static_cast<uint16_t>(option), value, Host::now());
  }
}

int Sockets::set_tcp(Open& s, int option, const void* value, socklen_t length) {
  if (option == TCP_CONGESTION) {
    std::string name(static_cast<const char*>(value), length);
    name.resize(std::strlen(name.c_str()));
    if (name == "reno") name = "newreno";
    const size_t index = find_congestion(name);
    if (index == kCongestionCount) return fail(ENOENT);
    return set(s, SocketOption::congestion, static_cast<uint32_t>(index));
  }
  const auto it = tcp_options().find(option);
  if (it == tcp_options().end()) return fail(ENOPROTOOPT);
  int number;
  if (length < sizeof number) return fail(EINVAL);
  std::memcpy(&number, value, sizeof number);
  return set(s, it->second, static_cast<uint32_t>(number));
}

int Sockets::setsockopt(int fd, int level, int option, const void* value, socklen_t length) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (level == IPPROTO_TCP) return set_tcp(*s, option, value, length);
  if (level == SOL_SOCKET && option == SO_LINGER) {
    linger l;
    if (length < sizeof l) return fail(EINVAL);
    std::memcpy(&l, value, sizeof l);
    s->reset_on_close = l.l_onoff != 0 && l.l_linger == 0;
    return 0;
  }
  int number;
  if (length < sizeof number) return fail(EINVAL);
  std::memcpy(&number, value, sizeof number);
  const auto n = static_cast<uint32_t>(number);
  if (level == SOL_SOCKET) {
    if (option == SO_REUSEADDR || option == SO_REUSEPORT) return 0;
    const auto it = socket_options().find(option);
    if (it != socket_options().end()) return set(*s, it->second, n);
  } else if (level == IPPROTO_IP && option == IP_TOS) {
    return set(*s, SocketOption::tos, n);
  } else if (level == IPPROTO_IP && option == IP_TTL) {
    return set(*s, SocketOption::ttl, n);
  }
  return fail(ENOPROTOOPT);
}

int Sockets::getsockopt(int fd, int level, int option, void* value, socklen_t* length) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (level == IPPROTO_TCP && option == TCP_INFO) return tcp_info(*s, value, length);
  if ((level == IPPROTO_TCP && option == TCP_CC_INFO) ||
      (level == SOL_SOCKET &&
       option == SO_MEMINFO)) {  // asked for beside TCP_INFO; nothing to tell
    std::memset(value, 0, *length);
    if (option == TCP_CC_INFO) *length = 0;
    return 0;
  }
  int number = 0;
  if (level == SOL_SOCKET && option == SO_ERROR) {
    number = pending_error(*s);
  } else if (level == SOL_SOCKET && socket_options().count(option) != 0) {
    number = static_cast<int>(s->options[socket_options().at(option)]);
  } else if (level == IPPROTO_TCP && tcp_options().count(option) != 0) {
    TcpInfo info;
    if (option == TCP_MAXSEG && s->exists && host_.stack().tcp_info(s->ref, Host::now(), &info)) {
      number = info.mss;
    } else {
      number = static_cast<int>(s->options[tcp_options().at(option)]);
    }
  } else {
    return fail(ENOPROTOOPT);
  }
  *length = std::min<socklen_t>(*length, sizeof number);
  std::memcpy(value, &number, *length);
  return 0;
}

// Windows in segments, times in microseconds, as Linux gives them.
int Sockets::tcp_info(Open& s, void* value, socklen_t* length) {
  TcpInfo t;
  if (!s.exists || !host_.stack().tcp_info(s.ref, Host::now(), &t)) return fail(ENOTCONN);
  ::tcp_info info{};
  const uint32_t mss = std::max<uint32_t>(1, t.mss);
  const auto segments = [mss](uint32_t bytes) { return (bytes + mss - 1) / mss; };
  info.tcpi_state = static_cast<uint8_t>(t.state);
  info.tcpi_ca_state = t.in_recovery ? TCP_CA_Recovery : TCP_CA_Open;
  info.tcpi_backoff = t.backoff;
  info.tcpi_options =
      static_cast<uint8_t>((t.timestamps ? TCPI_OPT_TIMESTAMPS : 0) | (t.sack ? TCPI_OPT_SACK : 0) |
                           (t.window_scaling ? TCPI_OPT_WSCALE : 0) | (t.ecn ? TCPI_OPT_ECN : 0));
  info.tcpi_snd_wscale = t.snd_scale & 15;
  info.tcpi_rcv_wscale = t.rcv_scale & 15;
  info.tcpi_rto = microseconds(t.rto);
  info.tcpi_rtt = microseconds(t.srtt);
  info.tcpi_rttvar = microseconds(t.rttvar);
  info.tcpi_min_rtt = microseconds(t.min_rtt);
  info.tcpi_snd_mss = t.mss;
  info.tcpi_rcv_mss = t.rcv_mss;
  info.tcpi_unacked = segments(t.in_flight);
  info.tcpi_sacked = segments(t.sacked);
  info.tcpi_lost = segments(t.lost);
  info.tcpi_snd_cwnd = t.cwnd / mss;
  info.tcpi_snd_ssthresh = t.ssthresh == UINT32_MAX ? 0x7fffffff : t.ssthresh / mss;
  info.tcpi_total_retrans = t.retransmits;
  info.tcpi_notsent_bytes = t.unsent;
  info.tcpi_snd_wnd = t.snd_wnd;
  info.tcpi_reord_seen = t.reordering ? 1 : 0;
  std::memset(value, 0, *length);  // a newer caller's fields
  std::memcpy(value, &info, std::min<size_t>(*length, sizeof info));
  return 0;
}

}  // namespace postern::packetdrill
