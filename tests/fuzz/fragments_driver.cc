#include "fragments_driver.h"

#include <vector>

#include "bytes.h"
#include "ip/reassembly.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern {
namespace {

constexpr size_t kEthernet = 14;
constexpr uint32_t kMemory = 64 << 10;  // small, so that packets have to give way

// What a packet is told apart by; its bytes follow from it.
struct Key {
  bool is_v6 = false;
  uint8_t source = 0;
  uint8_t id = 0;
  [[nodiscard]] std::byte at(uint32_t position) const {
    const uint32_t mixed = (position + 1) * 2654435761U ^ (source * 256U + id) * 40503U;
    return static_cast<std::byte>(mixed >> 13);
  }
};

class Driver {
 public:
  Driver() : reassembler_({.memory = kMemory, .memory_of_source = kMemory / 2}) {}

  void run(Bytes in) {
    while (!in.done()) step(in);
    now_ += 120s;
    expire();
    require(reassembler_.pages_used() == 0 && reassembler_.packets() == 0,
            "nothing is kept when time is up");
    require(reassembler_.next_deadline() == kNever, "nothing is timed when nothing is kept");
  }

 private:
  void step(Bytes& in) {
    const uint8_t what = in.byte();
    if (what < 16) {
      now_ += std::chrono::milliseconds(in.half());
      expire();
      return;
    }
    Key key{(what & 1) != 0, static_cast<uint8_t>(in.byte() % 3),
            static_cast<uint8_t>(what >> 1 & 7)};
    const uint16_t place = in.half();  // in bytes, the lowest bits say how
    const uint32_t offset = (place & 0x3ff8U) % 8192;
    const bool more = (place & 1) != 0;
    uint32_t length = in.half() % 1400;
    if (more) length -= length % 8;
    if (length == 0) length = 8;
    // Now and then one that lies: what is whole then may be anything but too long.
    const bool lies = (place & 6) == 6 && in.byte() < 32;
    if (lies) liars_[key.is_v6 ? 1 : 0][key.source][key.id] = true;
    add(key, offset, length, more, lies);
  }

  static IpAddress source_of(const Key& key) {
    IpAddress a = key.is_v6 ? *IpAddress::parse("2001:db8::10") : IpAddress::v4(0xc0000210);
    a.data()[15] = static_cast<uint8_t>(0x10 + key.source);
    return a;
  }
  static IpAddress destination_of(const Key& key) {
    return key.is_v6 ? *IpAddress::parse("2001:db8::1") : IpAddress::v4(0xc0000201);
  }

  void add(const Key& key, uint32_t offset, uint32_t length, bool more, bool lies) {
    frame_.assign(kEthernet + 48 + length, std::byte{});
    std::byte* p = frame_.data();
    p += wire::write_ethernet(p, {{2}}, {{4}},
                              key.is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
    wire::IpFields fields{.source = source_of(key),
                          .destination = destination_of(key),
                          .protocol = static_cast<uint8_t>(Protocol::udp),
                          .dont_fragment = false,
                          .id = key.id,
                          .payload_length = length};
    if (key.is_v6) {
      fields.protocol = wire::kFragmentProtocol;
      fields.payload_length += 8;
      p += wire::write_ip(p, fields);
      p +=
          wire::write_fragment_header(p, static_cast<uint8_t>(Protocol::udp), offset, more, key.id);
    } else {
      fields.fragment_offset = static_cast<uint16_t>(offset);
      fields.more_fragments = more;
      p += wire::write_ip(p, fields);
    }
    for (uint32_t i = 0; i < length; ++i) p[i] = lies ? std::byte{0xee} : key.at(offset + i);
    frame_.resize(static_cast<size_t>(p - frame_.data()) + length);
    take(key, static_cast<uint32_t>(frame_.size()));
  }

  void take(const Key& key, uint32_t length) {
    RxPacket packet;
    packet.data = frame_.data();
    packet.length = length;
    const ParsedPacket parsed = wire::parse(packet);
    if (parsed.drop != Drop::none || !parsed.fragment) return;  // a whole packet in one piece
    std::span<std::byte> whole;
    (void)reassembler_.add(parsed, wire::read_fragment(packet, parsed), now_, &whole);
    (void)reassembler_.take_displaced();
    require(reassembler_.pages_used() * 2048 <= kMemory, "no more memory than was given");
    if (!whole.empty()) check(key, whole);
  }

  void check(const Key& key, std::span<const std::byte> whole) {
    const size_t header = key.is_v6 ? 40 : 20;
    require(whole.size() > header && whole.size() <= 65575, "a packet's length");
    bool& liar = liars_[key.is_v6 ? 1 : 0][key.source][key.id];
    for (size_t i = header; i < whole.size() && !liar; ++i) {
      require(whole[i] == key.at(static_cast<uint32_t>(i - header)), "each byte as it was sent");
    }
  }

  void expire() {
    Reassembler::Expired e;
    uint32_t count = 0;
    while (reassembler_.next_expired(now_, &e)) {
      require(++count < 10000, "expiring ends");
    }
  }

  Reassembler reassembler_;
  Time now_{1s};
  std::vector<std::byte> frame_;
  bool liars_[2][3][8] = {};  // some fragment had other bytes
};

}  // namespace

void drive_fragments(const uint8_t* data, size_t size) { Driver().run(Bytes(data, size)); }

}  // namespace postern
