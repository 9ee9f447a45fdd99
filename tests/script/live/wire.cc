#include "wire.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "wire/arp.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::script {
namespace {

constexpr size_t kEthernet = 14;
constexpr size_t kLargest = 70000;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Time clock_now() {
  return Time(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

Wire::Wire(Ends ends) : ends_(std::move(ends)) {
  own_.bytes[4] = ends_.remote.data()[14];
  own_.bytes[5] = ends_.remote.data()[15];
  fd_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
  if (fd_ < 0) fail("packet socket");
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(::if_nametoindex(ends_.interface.c_str()));
  if (at.sll_ifindex == 0) fail(ends_.interface.c_str());
  if (::bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) fail("bind");
  packet_mreq promiscuous{};
  promiscuous.mr_ifindex = at.sll_ifindex;
  promiscuous.mr_type = PACKET_MR_PROMISC;
  if (::setsockopt(fd_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0) {
    fail("promiscuous");
  }
}

Wire::~Wire() { ::close(fd_); }

void Wire::use_ports(uint16_t local, uint16_t remote) {
  local_port_ = local;
  remote_port_ = remote;
  waiting_.clear();
}

Wire::Packet Wire::next() {
  const Packet packet = waiting_.front();
  waiting_.pop_front();
  return packet;
}

bool Wire::listen_until(Time at, bool until_packet) {
  std::array<std::byte, kLargest> frame;
  for (;;) {
    const ssize_t n = ::recv(fd_, frame.data(), frame.size(), 0);
    if (n > 0) take(frame.data(), static_cast<size_t>(n), clock_now());
    if (until_packet && !waiting_.empty()) return true;
    if (n > 0) continue;
    const Duration left = at - clock_now();
    if (left <= Duration(0)) return !waiting_.empty();
    pollfd p{fd_, POLLIN, 0};
    const timespec wait{static_cast<time_t>(left / 1s), static_cast<long>(left % 1s / 1ns)};
    (void)::ppoll(&p, 1, &wait, nullptr);
  }
}

void Wire::take(const std::byte* frame, size_t length, Time at) {
  RxPacket packet;
  packet.data = frame;
  packet.length = static_cast<uint32_t>(length);
  const ParsedPacket p = wire::parse(packet);
  if (p.kind == PacketKind::arp) return answer_arp(frame, length);
  if (p.drop != Drop::none || p.kind != PacketKind::tcp || p.source != ends_.local ||
      p.destination != ends_.remote || p.source_port != local_port_) {
    return;
  }
  if (remote_port_ == 0) remote_port_ = p.destination_port;
  if (p.destination_port != remote_port_) return;
  Packet got;
  got.at = at;
  if (wire::parse_tcp(packet, p, &got.segment) == Drop::none) waiting_.push_back(got);
}

// Postern asks for us. Its own MAC is learned by the way.
void Wire::answer_arp(const std::byte* frame, size_t length) {
  RxPacket packet;
  packet.data = frame;
  packet.length = static_cast<uint32_t>(length);
  const wire::ArpPacket asked = wire::read_arp(packet, wire::parse(packet));
  if (asked.sender_ip == ends_.local) peer_ = asked.sender_mac;
  if (asked.operation != wire::ArpPacket::kRequest || asked.target_ip != ends_.remote) return;
  std::vector<std::byte> reply(60);
  std::byte* out = reply.data();
  out += wire::write_ethernet(out, asked.sender_mac, own_, wire::ether_type::arp);
  wire::write_arp(out,
                  {wire::ArpPacket::kReply, own_, ends_.remote, asked.sender_mac, asked.sender_ip});
  (void)::send(fd_, reply.data(), reply.size(), 0);
}

void Wire::transmit(const std::vector<std::byte>& frame) {
  if (::send(fd_, frame.data(), frame.size(), 0) < 0) fail("send");
}

bool Wire::meet(Duration patience) {
  const Time end = clock_now() + patience;
  while (peer_.is_zero() && clock_now() < end) {
    std::vector<std::byte> asks(60);
    std::byte* out = asks.data();
    out += wire::write_ethernet(out, {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, own_,
                                wire::ether_type::arp);
    wire::write_arp(out, {wire::ArpPacket::kRequest, own_, ends_.remote, {}, ends_.local});
    transmit(asks);
    for (int i = 0; i < 100 && peer_.is_zero(); ++i) (void)listen_until(clock_now() + 1ms, false);
  }
  return !peer_.is_zero();
}

// Byte i of the stream is i modulo 256, as good as any.
void Wire::send(const TcpSegment& s, uint32_t payload_from) {
  const size_t header = wire::tcp_header_length(s);
  std::vector<std::byte> frame(kEthernet + 20 + header + s.length);
  std::byte* out = frame.data();
  out += wire::write_ethernet(out, peer_, own_, wire::ether_type::ipv4);
  out += wire::write_ip(out, {.source = ends_.remote,
                              .destination = ends_.local,
                              .protocol = 6,
                              .tos = s.ecn,
                              .payload_length = static_cast<uint32_t>(header + s.length)});
  wire::write_tcp(out, remote_port_, local_port_, s);
  for (uint32_t i = 0; i < s.length; ++i)
    out[header + i] = static_cast<std::byte>(payload_from + i);
  wire::finish_checksum(out, header, s.length, ends_.remote, ends_.local, Protocol::tcp);
  transmit(frame);
}

void Wire::send_icmp(uint8_t code, uint16_t mtu, uint32_t seq) {
  constexpr size_t kQuoted = 28;  // IP header and eight bytes
  constexpr uint8_t kUnreachable = 3;
  std::vector<std::byte> frame(kEthernet + 20 + 8 + kQuoted + 12);
  std::byte* out = frame.data();
  out += wire::write_ethernet(out, peer_, own_, wire::ether_type::ipv4);
  out += wire::write_ip(out, {.source = ends_.remote,
                              .destination = ends_.local,
                              .protocol = 1,
                              .payload_length = 8 + kQuoted});
  std::byte* quoted = out + 8;
  wire::write_icmp(out, kUnreachable, code, mtu);
  quoted += wire::write_ip(
      quoted,
      {.source = ends_.local, .destination = ends_.remote, .protocol = 6, .payload_length = 20});
  TcpSegment s;
  s.seq = seq;
  wire::write_tcp(quoted, local_port_, remote_port_, s);
  wire::finish_checksum(out, 8, kQuoted, ends_.remote, ends_.local, Protocol::icmp);
  frame.resize(kEthernet + 20 + 8 + kQuoted);
  transmit(frame);
}

}  // namespace postern::script
