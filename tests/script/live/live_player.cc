#include "live_player.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "../words.h"
#include "client/postern.h"

namespace postern::script {
namespace {

constexpr Duration kPatience = 300ms;  // for what a call waits for
constexpr Duration kPause = 1ms;       // after a packet or a call, so that it comes alone
constexpr Duration kAnyTime = 20s;     // for a packet that may come at any
constexpr int kShareOfWait = 10;       // of a timeout, which follows the round trips: 1 in so many
constexpr uint32_t kMostPayload = 1460;

struct Name {
  int level;
  int option;
};
const std::map<std::string, Name> kOptions{{"TCP_NODELAY", {IPPROTO_TCP, TCP_NODELAY}},
                                           {"TCP_CORK", {IPPROTO_TCP, TCP_CORK}},
                                           {"SO_KEEPALIVE", {SOL_SOCKET, SO_KEEPALIVE}},
                                           {"TCP_KEEPIDLE", {IPPROTO_TCP, TCP_KEEPIDLE}},
                                           {"TCP_KEEPINTVL", {IPPROTO_TCP, TCP_KEEPINTVL}},
                                           {"TCP_KEEPCNT", {IPPROTO_TCP, TCP_KEEPCNT}},
                                           {"TCP_USER_TIMEOUT", {IPPROTO_TCP, TCP_USER_TIMEOUT}},
                                           {"SO_SNDBUF", {SOL_SOCKET, SO_SNDBUF}},
                                           {"SO_RCVBUF", {SOL_SOCKET, SO_RCVBUF}},
                                           {"TCP_MAXSEG", {IPPROTO_TCP, TCP_MAXSEG}},
                                           {"TCP_QUICKACK", {IPPROTO_TCP, TCP_QUICKACK}},
                                           {"SO_OOBINLINE", {SOL_SOCKET, SO_OOBINLINE}},
                                           {"SO_REUSEADDR", {SOL_SOCKET, SO_REUSEADDR}}};

// What a socket tells, as an assertion names it; the others are the engine's secrets.
const std::set<std::string> kTold{"tcpi_state",        "tcpi_snd_cwnd",   "tcpi_snd_ssthresh",
                                  "tcpi_unacked",      "tcpi_sacked",     "tcpi_lost",
                                  "tcpi_snd_mss",      "tcpi_backoff",    "tcpi_retransmits",
                                  "tcpi_snd_wscale",   "tcpi_rcv_wscale", "tcpi_total_retrans",
                                  "tcpi_notsent_bytes"};

double told(const tcp_info& i, const std::string& name) {
  const std::map<std::string, double> values{{"tcpi_state", i.tcpi_state},
                                             {"tcpi_snd_cwnd", i.tcpi_snd_cwnd},
                                             {"tcpi_snd_ssthresh", i.tcpi_snd_ssthresh},
                                             {"tcpi_unacked", i.tcpi_unacked},
                                             {"tcpi_sacked", i.tcpi_sacked},
                                             {"tcpi_lost", i.tcpi_lost},
                                             {"tcpi_snd_mss", i.tcpi_snd_mss},
                                             {"tcpi_backoff", i.tcpi_backoff},
                                             {"tcpi_retransmits", i.tcpi_retransmits},
                                             {"tcpi_snd_wscale", i.tcpi_snd_wscale},
                                             {"tcpi_rcv_wscale", i.tcpi_rcv_wscale},
                                             {"tcpi_total_retrans", i.tcpi_total_retrans},
                                             {"tcpi_notsent_bytes", i.tcpi_notsent_bytes}};
  const auto it = values.find(name);
  return it != values.end() ? it->second : std::strtod(name.c_str(), nullptr);
}

sockaddr_in to_sockaddr(const IpAddress& address, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  std::memcpy(&out.sin_addr, address.data() + 12, 4);
  return out;
}

int unreachable_code(int error) {
  return error == ENETUNREACH ? 0 : error == EHOSTUNREACH ? 1 : error == ENOPROTOOPT ? 2 : 3;
}

}  // namespace

LivePlayer::LivePlayer(const Script& script, Wire& wire, Options options)
    : script_(script), verdict_(script.path), wire_(wire), options_(options) {}

LivePlayer::~LivePlayer() {
  const linger now{1, 0};
  for (const auto& [name, fd] : fds_) {
    (void)postern_setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    (void)postern_close(fd);
  }
}

std::string LivePlayer::unfit(const Script& script, const std::set<std::string>& has,
                              Duration longest) {
  for (const Setting& s : script.settings) {
    if (s.key != "tolerance_usecs" && has.count(s.key + "=" + s.value) == 0)
      return "--" + s.key + " is the daemon's to set";
  }
  const bool long_segment =
      std::any_of(script.events.begin(), script.events.end(), [](const Event& e) {
        return e.type == Event::Type::inbound && e.packet.segment.length > kMostPayload;
      });
  if (long_segment) return "a segment is longer than the link carries";
  if (script.events.back().earliest.time_since_epoch() > longest) return "it takes long";
  return "";
}

std::string LivePlayer::run() {
  const bool active = std::any_of(script_.events.begin(), script_.events.end(), [](const Event& e) {
    return e.type == Event::Type::call && e.call.name == "connect";
  });
  // The port of an active opener is known with its SYN.
  wire_.use_ports(options_.port, active ? options_.port : static_cast<uint16_t>(options_.port + 1));
  try {
    if (!wire_.meet(3s)) verdict_.fail(script_.events.front(), "the daemon does not answer ARP");
    base_ = clock_now() + 10ms;
    for (size_t i = 0; i < script_.events.size(); ++i) {
      play(script_.events[i]);
      last_ = script_.events[i].earliest;
      if (!is_outbound(i + 1)) (void)wire_.listen_until(clock_now() + kPause, false);
    }
    (void)wire_.listen_until(clock_now() + 5ms, true);
    if (!wire_.empty()) {
      const Wire::Packet more = wire_.next();
      verdict_.unexpected(script_.events.back(), numbers_.to_script(more.segment), more.at - base_);
    }
    return "";
  } catch (const Failure& f) {
    return f.what;
  }
}

bool LivePlayer::is_outbound(size_t event) const {
  return event < script_.events.size() && script_.events[event].type == Event::Type::outbound;
}

// What this process cannot do in time moves everything that follows.
void LivePlayer::wait_for(const Event& e) {
  if (e.any_time) return;
  const Time at = base_ + e.earliest.time_since_epoch();
  (void)wire_.listen_until(at, false);
  if (const Duration late = clock_now() - at; late > Duration(0)) base_ += late;
}

void LivePlayer::play(const Event& e) {
  if (e.type == Event::Type::outbound) return outbound(e);
  wait_for(e);
  if (e.type == Event::Type::inbound) return inbound(e);
  if (e.type == Event::Type::assertion) return assertion(e);
  call(e);
}

// ---- packets ----

void LivePlayer::inbound(const Event& e) {
  if (!e.packet.icmp) return wire_.send(numbers_.to_wire(e.packet), e.packet.segment.seq);
  const bool too_big = e.packet.icmp_mtu != 0;
  wire_.send_icmp(static_cast<uint8_t>(too_big ? 4 : unreachable_code(e.packet.icmp_errno)),
                  static_cast<uint16_t>(e.packet.icmp_mtu), e.packet.segment.seq + numbers_.isn());
}

// What the daemon sends late moves everything that follows, too.
void LivePlayer::outbound(const Event& e) {
  const Time due = base_ + e.latest.time_since_epoch();
  const Duration tolerance = options_.tolerance + (e.latest - last_) / kShareOfWait;
  if (!wire_.listen_until(e.any_time ? clock_now() + kAnyTime : due + tolerance, true))
    verdict_.no_packet(e);
  const Wire::Packet sent = wire_.next();
  numbers_.learn(sent.segment, e.packet.segment);
  verdict_.packet(e, numbers_.to_script(sent.segment), sent.at - base_, tolerance,
                  static_cast<uint32_t>(tolerance / 1ms));
  if (!e.any_time && sent.at > due) base_ += sent.at - due;
}

// ---- calls ----

void LivePlayer::call(const Event& e) {
  const Call& c = e.call;
  errno = 0;
  const long result = perform(e);
  const int error = errno;
  const bool makes_fd = (c.name == "socket" || c.name == "accept") && result >= 0;
  if (makes_fd) fds_[static_cast<int>(c.result)] = static_cast<int>(result);
  verdict_.result(e, makes_fd && c.result >= 0 ? c.result : result, error);
}

long LivePlayer::perform(const Event& e) {
  const Call& c = e.call;
  if (c.name == "socket") return postern_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const auto known = fds_.find(static_cast<int>(bracketed(c.arguments.at(0))));
  if (known == fds_.end()) verdict_.fail(e, "there is no such socket");
  const int fd = known->second;
  if (c.name == "bind") return do_bind(fd);
  if (c.name == "fcntl") return c.result;
  if (c.name == "listen") return do_listen(fd);
  if (c.name == "connect") return do_connect(e, fd);
  if (c.name == "accept") return do_accept(e, fd);
  if (c.name == "setsockopt") return do_option(e, fd);
  if (c.name == "getsockopt") return look_for_error(e, fd);
  if (c.name == "read" || c.name == "recv") return do_read(e, fd);
  if (c.name == "write" || c.name == "send") return do_write(e, fd);
  if (c.name == "shutdown") return do_shutdown(fd);
  if (c.name != "close" && c.name != "abort") verdict_.fail(e, "unknown call " + c.name);
  fds_.erase(known);
  return c.name == "close" ? postern_close(fd) : do_abort(fd);
}

void LivePlayer::settle(int fd, short events, Duration patience) {
  const Time end = clock_now() + patience;
  postern_pollfd p{fd, events, 0};
  while (postern_poll(&p, 1, 0) == 0 && clock_now() < end) {
    (void)wire_.listen_until(clock_now() + 1ms, false);
  }
}

long LivePlayer::do_bind(int fd) {
  const sockaddr_in at = to_sockaddr(IpAddress::v4(0), options_.port);
  return postern_bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at);
}

long LivePlayer::do_listen(int fd) {
  listener_ = fd;
  return postern_listen(fd, 8);
}

// A blocking one returns later, and is not looked at here.
long LivePlayer::do_connect(const Event& e, int fd) {
  if (connecting_) settle(fd, POLLOUT, kPatience);
  const sockaddr_in to = to_sockaddr(wire_.remote(), static_cast<uint16_t>(options_.port + 1));
  if (!connecting_) {
    if (do_bind(fd) != 0) return -1;
    wire_.use_ports(options_.port, static_cast<uint16_t>(options_.port + 1));
  }
  const long result = postern_connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  const bool first = !connecting_;
  connecting_ = true;
  return first && e.call.result == 0 ? 0 : result;
}

long LivePlayer::do_accept(const Event& e, int fd) {
  if (e.call.result >= 0) settle(fd, POLLIN, kPatience);
  return postern_accept4(fd, nullptr, nullptr, SOCK_NONBLOCK);
}

long LivePlayer::do_read(const Event& e, int fd) {
  std::vector<char> bytes(bracketed(e.call.arguments.at(2)));
  const Time end = clock_now() + kPatience;
  if (e.call.result > 0) {  // all of it, which may come in several events
    while (postern_available(fd) < e.call.result && clock_now() < end) {
      (void)wire_.listen_until(clock_now() + 1ms, false);
    }
  } else if (e.call.error == "EAGAIN") {
    (void)wire_.listen_until(clock_now() + 2ms, false);
  } else {
    settle(fd, POLLIN, kPatience);
  }
  long got = postern_recv(fd, bytes.data(), bytes.size(), 0);
  const int error = errno;
  while (got > 0 && got < e.call.result) {  // a read ends at the urgent mark
    const long more = postern_recv(fd, bytes.data(), bytes.size() - static_cast<size_t>(got), 0);
    if (more <= 0) break;
    got += more;
  }
  // As a program that waits for more: libpostern tells the daemon what was read.
  postern_pollfd p{fd, 0, 0};
  (void)postern_poll(&p, 1, 1);
  errno = error;
  return got;
}

long LivePlayer::do_write(const Event& e, int fd) {
  const std::vector<char> bytes(bracketed(e.call.arguments.at(2)));
  const bool more =
      e.call.arguments.size() > 3 && e.call.arguments[3].find("MSG_MORE") != std::string::npos;
  if (e.call.result < 0 && !shut_) settle(fd, POLLIN, kPatience);
  return postern_send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0));
}

long LivePlayer::do_shutdown(int fd) {
  shut_ = true;
  return postern_shutdown(fd, SHUT_WR);
}

long LivePlayer::do_option(const Event& e, int fd) {
  const std::string& name = e.call.arguments.at(2);
  const std::string text = unquoted(e.call.arguments.at(3));
  if (name == "TCP_CONGESTION") {
    return postern_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text.c_str(),
                              static_cast<socklen_t>(text.size()));
  }
  const auto known = kOptions.find(name);
  if (known == kOptions.end()) verdict_.fail(e, "unknown option " + name);
  const int value = static_cast<int>(bracketed(text));
  return postern_setsockopt(fd, known->second.level, known->second.option, &value, sizeof value);
}

long LivePlayer::do_abort(int fd) {
  const linger now{1, 0};
  (void)postern_setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  return postern_close(fd);
}

long LivePlayer::look_for_error(const Event& e, int fd) {
  const int wanted = bracketed_errno(e.call.arguments.at(3));
  if (wanted != 0) settle(fd, POLLERR, kPatience);
  int error = 0;
  socklen_t length = sizeof error;
  const int result = postern_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != wanted) verdict_.fail(e, "SO_ERROR is " + errno_name(error));
  return result;
}

// ---- assertions ----

// Of a connection that the program has: before accept and after close there is none to ask.
void LivePlayer::assertion(const Event& e) {
  (void)wire_.listen_until(clock_now() + 1ms, false);
  const auto newest = fds_.rbegin();
  if (newest == fds_.rend() || newest->second == listener_) return;
  tcp_info info{};
  socklen_t length = sizeof info;
  if (postern_getsockopt(newest->second, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    verdict_.fail(e, "TCP_INFO: " + errno_name(errno));
  for (const Assertion& a : e.assertions) {
    if (kTold.count(a.left) == 0) continue;
    const int state = state_number(a.right);
    verdict_.assertion(e, a, told(info, a.left), state >= 0 ? state : told(info, a.right));
  }
}

}  // namespace postern::script
