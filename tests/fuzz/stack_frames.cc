#include "stack_frames.h"

#include <cstring>

#include "base/checksum.h"
#include "wire/fragment.h"
#include "wire/nd.h"
#include "wire/parse.h"

namespace postern {
namespace {

constexpr size_t kEthernet = 14;
constexpr MacAddress kPeerMac{{2, 0, 0, 0, 0, 2}};

IpAddress v6(const char* text) { return *IpAddress::parse(text); }

const IpAddress kTheirs4[] = {IpAddress::v4(0x0a000002), IpAddress::v4(0x0a000003),
                              IpAddress::v4(0xc0000207), IpAddress::v4(0x0a0000fe)};
const IpAddress kOurs4[] = {kStackAddress4,
                            kStackAddress4,
                            IpAddress::v4(0x0a0000ff),
                            IpAddress::v4(0xffffffff),
                            IpAddress::v4(0xe0000001),
                            IpAddress::v4(0xef010101)};
const IpAddress kTheirs6[] = {v6("fd00::2"), v6("fe80::2"), v6("2001:db8::7"), v6("::")};
const IpAddress kOurs6[] = {v6("fd00::1"),        v6("fe80::ff:fe00:1"), v6("ff02::1"),
                            v6("ff02::1:ff00:1"), v6("ff02::16"),        v6("ff05::101")};
constexpr uint16_t kPorts[] = {80, 53, 1000, 40000};

uint16_t port(Bytes& in) {
  const uint8_t b = in.byte();
  return b % 8 == 7 ? in.half() : kPorts[b % 4];
}

MacAddress mac_towards(const IpAddress& a) {
  const uint8_t* const last = a.data() + 12;
  if (a.is_v4() && a.v4_value() == UINT32_MAX) return {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  if (!a.is_multicast()) return kStackMac;
  if (a.is_v4()) return {{1, 0, 0x5e, static_cast<uint8_t>(last[1] & 0x7f), last[2], last[3]}};
  return {{0x33, 0x33, last[0], last[1], last[2], last[3]}};
}

void fill(Bytes& in, std::byte* out, size_t n) {
  const auto bytes = in.take(n);
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
}

void finish_icmp(std::byte* l4, size_t length, const IpAddress& source,
                 const IpAddress& destination) {
  wire::finish_checksum(l4, 8, length - 8, source, destination,
                        source.is_v4() ? Protocol::icmp : Protocol::icmp6);
}

}  // namespace

Frame StackFrames::make(Bytes& in, bool* judged) {
  *judged = true;
  const uint8_t what = in.byte();
  Frame frame;
  switch (what % 16) {
    case 0: {
      const auto bytes = in.take(in.byte());
      frame.resize(bytes.size());
      if (!bytes.empty()) std::memcpy(frame.data(), bytes.data(), bytes.size());
      break;
    }
    case 1:
      frame = arp(in);
      break;
    case 2:
      frame = udp(in);
      break;
    case 3:
      frame = echo(in);
      break;
    case 4:
      frame = icmp_error(in);
      break;
    case 5:
      frame = neighbor(in);
      break;
    case 6:
      frame = router(in);
      break;
    case 7:
      frame = group(in);
      break;
    case 8:
      frame = fragment(in);
      break;
    case 9:
      frame = any_protocol(in);
      break;
    case 10:
      frame = earlier(in);
      break;
    default:
      frame = tcp(in);
  }
  if ((what & 0xe0) == 0 && !frame.empty()) {  // something in it is another
    frame[in.half() % frame.size()] ^= static_cast<std::byte>(in.byte());
    *judged = in.byte() % 4 != 0;
  }
  if ((what & 0xe0) == 0x20) frame.resize(std::min<size_t>(frame.size(), in.half() % 256));
  return frame;
}

void StackFrames::seen(const Frame& frame) {
  sent_[next_sent_++ % sent_.size()] = frame;
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  const ParsedPacket p = wire::parse(packet);
  TcpSegment s;
  if (p.drop != Drop::none || p.kind != PacketKind::tcp || p.fragment ||
      wire::parse_tcp(packet, p, &s) != Drop::none)
    return;
  Flow* flow = nullptr;
  for (Flow& f : flows_) {
    if (f.local_port == p.source_port && f.remote_port == p.destination_port) flow = &f;
  }
  if (flow == nullptr) flow = &flows_[next_flow_++ % flows_.size()];
  const uint32_t space = s.length + ((s.flags & tcp_flag::syn) != 0 ? 1 : 0) +
                         ((s.flags & tcp_flag::fin) != 0 ? 1 : 0);
  *flow = {p.is_v6,       p.destination, p.source,      p.destination_port,
           p.source_port, s.ack,         s.seq + space, s.ts_value};
}

StackFrames::Ends StackFrames::ends(Bytes& in) const {
  const uint8_t b = in.byte();
  return (b & 1) != 0 ? Ends{kTheirs6[b / 2 % 4], kOurs6[b / 8 % 6]}
                      : Ends{kTheirs4[b / 2 % 4], kOurs4[b / 8 % 6]};
}

// With room for `length` bytes behind its header, and tagged now and then.
Frame StackFrames::ip(Bytes& in, const Ends& ends, uint8_t protocol, uint32_t length,
                      std::byte** l4) const {
  const bool is_v6 = !ends.source.is_v4();
  const uint8_t b = in.byte();
  const uint16_t vlan = b % 16 == 15 ? kStackVlan : 0;
  const size_t before = kEthernet + (vlan != 0 ? 4 : 0) + (is_v6 ? 40 : 20);
  Frame frame(before + length);
  std::byte* out = frame.data();
  out += wire::write_ethernet(out, mac_towards(ends.destination), kPeerMac,
                              is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4, vlan);
  out += wire::write_ip(out, {.source = ends.source,
                              .destination = ends.destination,
                              .protocol = protocol,
                              .ttl = static_cast<uint8_t>(b % 4 == 3 ? in.byte() : 255),
                              .tos = static_cast<uint8_t>(b >> 6),
                              .payload_length = length});
  *l4 = out;
  return frame;
}

Frame StackFrames::arp(Bytes& in) const {
  const uint8_t b = in.byte();
  Frame frame(60);
  std::byte* out = frame.data();
  const bool broadcast = (b & 1) != 0;
  out += wire::write_ethernet(
      out, broadcast ? MacAddress{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}} : kStackMac, kPeerMac,
      wire::ether_type::arp);
  const IpAddress sender = (b & 2) != 0 ? kTheirs4[b / 32 % 4] : kOurs4[b / 32 % 6];
  const IpAddress target = (b & 4) != 0 ? kTheirs4[in.byte() % 4] : kStackAddress4;
  MacAddress mac = kPeerMac;
  if ((b & 16) != 0) mac.bytes[5] = in.byte();
  wire::write_arp(out, {static_cast<uint16_t>(1 + (b >> 3 & 1)), mac, sender, kStackMac, target});
  return frame;
}

// Of a flow that the stack has sent for, or a new one.
Frame StackFrames::tcp(Bytes& in) {
  const uint8_t b = in.byte();
  Flow f = flows_[b % flows_.size()];
  if (f.local_port == 0 || (b & 0xc0) == 0) {
    const Ends e = ends(in);
    f = {!e.source.is_v4(), e.source, e.destination, port(in), port(in), in.word(), in.word(), 0};
  }
  TcpSegment s;
  const uint8_t kind = in.byte();
  s.flags = kind % 4 == 0 ? in.byte() : static_cast<uint8_t>(tcp_flag::ack);
  s.seq = in.near(f.theirs);
  s.ack = in.near(f.ours);
  s.window = in.half();
  s.length = kind % 3 == 0 ? in.half() % 1461U : 0;
  s.urgent = (s.flags & tcp_flag::urg) != 0 ? in.byte() : 0;
  s.has_timestamps = (kind & 16) != 0;
  s.ts_value = in.near(1000);
  s.ts_echo = f.timestamp;
  if ((kind & 32) != 0) {
    s.sack_count = static_cast<uint8_t>(in.byte() % 4);
    for (int i = 0; i < s.sack_count; ++i) {
      s.sack[i].left = in.near(f.ours);
      s.sack[i].right = s.sack[i].left + in.half();
    }
  }
  if ((kind & 64) != 0) {
    s.has_mss = s.sack_permitted = s.has_window_scale = true;
    s.mss = in.half();
    s.window_scale = in.byte() % 16;
  }
  const auto header = static_cast<uint32_t>(wire::tcp_header_length(s));
  std::byte* l4 = nullptr;
  Frame frame = ip(in, {f.remote, f.local}, 6, header + s.length, &l4);
  wire::write_tcp(l4, f.remote_port, f.local_port, s);
  fill(in, l4 + header, s.length % 16);
  wire::finish_checksum(l4, header, s.length, f.remote, f.local, Protocol::tcp);
  return frame;
}

Frame StackFrames::udp(Bytes& in) const {
  const Ends e = ends(in);
  const uint32_t length = in.byte() % 8 == 0 ? in.half() % 1473U : in.byte();
  std::byte* l4 = nullptr;
  Frame frame = ip(in, e, 17, 8 + length, &l4);
  wire::write_udp(l4, port(in), port(in), length);
  fill(in, l4 + 8, length % 16);
  wire::finish_checksum(l4, 8, length, e.source, e.destination, Protocol::udp);
  return frame;
}

Frame StackFrames::echo(Bytes& in) const {
  const Ends e = ends(in);
  const uint32_t length = in.byte() % 8 == 0 ? in.half() % 1473U : in.byte();
  std::byte* l4 = nullptr;
  const bool is_v4 = e.source.is_v4();
  Frame frame = ip(in, e, is_v4 ? 1 : 58, 8 + length, &l4);
  wire::write_icmp(l4, is_v4 ? 8 : 128, 0, in.word());
  finish_icmp(l4, 8 + length, e.source, e.destination);
  return frame;
}

// About something that was sent, as a router or its receiver would.
Frame StackFrames::icmp_error(Bytes& in) const {
  const Frame& about = earlier(in);
  const size_t quoted =
      about.size() < kEthernet + 20 ? 0 : std::min<size_t>(about.size(), 142) - 14;
  const bool is_v6 = quoted != 0 && std::to_integer<int>(about[kEthernet]) >> 4 == 6;
  const Ends e = is_v6 ? Ends{kTheirs6[in.byte() % 4], kOurs6[0]}
                       : Ends{kTheirs4[in.byte() % 4], kStackAddress4};
  const auto length = static_cast<uint32_t>(8 + quoted);
  std::byte* l4 = nullptr;
  Frame frame = ip(in, e, is_v6 ? 58 : 1, length, &l4);
  const uint8_t type = in.byte();
  wire::write_icmp(l4,
                   is_v6           ? static_cast<uint8_t>(1 + type % 4)
                   : type % 2 == 0 ? 3
                                   : type % 16,
                   in.byte() % 16, in.byte() % 2 == 0 ? in.half() : in.word());
  if (quoted != 0) std::memcpy(l4 + 8, about.data() + kEthernet, quoted);
  if (quoted != 0 && type >= 0xc0) l4[8 + in.byte() % quoted] ^= static_cast<std::byte>(in.byte());
  finish_icmp(l4, length, e.source, e.destination);
  return frame;
}

// Solicitations and advertisements: RFC 4861 4.3, 4.4.
Frame StackFrames::neighbor(Bytes& in) const {
  const uint8_t b = in.byte();
  const Ends e{kTheirs6[b % 4], kOurs6[b / 4 % 6]};
  wire::NdMessage message;
  message.type = (b & 0x80) != 0 ? 135 : 136;
  const uint8_t flags = in.byte();
  message.router = (flags & 1) != 0;
  message.solicited = (flags & 2) != 0;
  message.override_known = (flags & 4) != 0;
  message.has_mac = (flags & 8) != 0;
  message.target = (flags & 16) != 0 ? kOurs6[flags >> 5 & 1] : kTheirs6[flags >> 5 & 3];
  message.mac = kPeerMac;
  message.mac.bytes[5] = in.byte() % 4;
  const uint32_t length = message.has_mac ? 32 : 24;
  std::byte* l4 = nullptr;
  Frame frame = ip(in, e, 58, length, &l4);
  wire::write_nd(l4, message);
  finish_icmp(l4, length, e.source, e.destination);
  return frame;
}

// Advertisements and redirects with any options: RFC 4861 4.2, 4.5.
Frame StackFrames::router(Bytes& in) const {
  const uint8_t b = in.byte();
  const Ends e{kTheirs6[b % 8 == 7 ? 0 : 1], kOurs6[b / 8 % 3]};
  const bool redirect = (b & 0x80) != 0;
  const uint32_t fixed = redirect ? 40 : 16;
  const uint32_t options = in.byte() % 12 * 8U;
  std::byte* l4 = nullptr;
  Frame frame = ip(in, e, 58, fixed + options, &l4);
  wire::write_icmp(l4, redirect ? 137 : 134, 0, in.word());
  if (redirect) {
    std::memcpy(l4 + 8, kTheirs6[in.byte() % 4].data(), 16);
    std::memcpy(l4 + 24, kTheirs6[in.byte() % 4].data(), 16);
  } else {
    fill(in, l4 + 8, 8);
  }
  // Options whose lengths are right; what they say is anybody's guess.
  for (uint32_t at = fixed; at < fixed + options;) {
    const uint32_t left = (fixed + options - at) / 8;
    const uint32_t units = std::min<uint32_t>(left, 1U + in.byte() % 4);
    fill(in, l4 + at, units * 8);
    l4[at] = static_cast<std::byte>(1 + std::to_integer<unsigned>(l4[at]) % 25);
    l4[at + 1] = static_cast<std::byte>(units);
    at += units * 8;
  }
  finish_icmp(l4, fixed + options, e.source, e.destination);
  return frame;
}

// IGMP and MLD: RFC 3376 4, RFC 3810 5.
Frame StackFrames::group(Bytes& in) const {
  const uint8_t b = in.byte();
  const bool is_v6 = (b & 1) != 0;
  const Ends e = is_v6 ? Ends{kTheirs6[1], kOurs6[2 + b / 2 % 4]}
                       : Ends{kTheirs4[b / 2 % 4], kOurs4[4 + b / 8 % 2]};
  const uint32_t length = (is_v6 ? 24U : 8U) + in.byte() % 6 * 4U;
  std::byte* l4 = nullptr;
  Frame frame = ip(in, e, is_v6 ? 58 : 2, length, &l4);
  fill(in, l4, length);
  constexpr uint8_t kTypes4[] = {0x11, 0x12, 0x16, 0x17, 0x22}, kTypes6[] = {130, 131, 132, 143};
  l4[0] = static_cast<std::byte>(is_v6 ? kTypes6[b / 32 % 4] : kTypes4[b / 32 % 5]);
  if (in.byte() % 2 == 0 && length >= 24 && is_v6) std::memcpy(l4 + 8, kOurs6[5].data(), 16);
  if (is_v6) {
    finish_icmp(l4, length, e.source, e.destination);
    return frame;
  }
  l4[2] = l4[3] = std::byte{};
  const be16 sum = checksum_finish(checksum_add({l4, length}));
  std::memcpy(l4 + 2, &sum, 2);
  return frame;
}

// A part of a datagram; parts of one have the same few identifications.
Frame StackFrames::fragment(Bytes& in) const {
  const Ends e = ends(in);
  const uint8_t b = in.byte();
  const bool is_v6 = !e.source.is_v4(), more = (b & 1) != 0;
  const auto offset = static_cast<uint16_t>(in.byte() % 16 == 15 ? in.half() & 0xfff8 : b / 32 * 8);
  uint32_t length = 8 + in.byte() % 64;
  if (more) length &= ~7U;
  const uint8_t id = b / 2 % 4;
  const uint8_t protocol = (b & 16) != 0 ? 17 : is_v6 ? 58 : 1;
  Frame frame(kEthernet + (is_v6 ? 48 : 20) + length);
  std::byte* out = frame.data();
  out += wire::write_ethernet(out, mac_towards(e.destination), kPeerMac,
                              is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
  out += wire::write_ip(out, {.source = e.source,
                              .destination = e.destination,
                              .protocol = is_v6 ? wire::kFragmentProtocol : protocol,
                              .dont_fragment = false,
                              .id = id,
                              .payload_length = length + (is_v6 ? 8U : 0U),
                              .fragment_offset = is_v6 ? uint16_t{0} : offset,
                              .more_fragments = !is_v6 && more});
  if (is_v6) out += wire::write_fragment_header(out, protocol, offset, more, id);
  fill(in, out, length);
  return frame;
}

Frame StackFrames::any_protocol(Bytes& in) const {
  const Ends e = ends(in);
  const uint32_t length = in.byte();
  std::byte* l4 = nullptr;
  const uint8_t protocol = in.byte();
  Frame frame = ip(in, e, protocol, length, &l4);
  fill(in, l4, length);
  return frame;
}

}  // namespace postern
