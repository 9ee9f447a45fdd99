// UDP received: RFC 768, RFC 1122 4.1.
#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "stack/core.h"
#include "udp/datagram.h"

namespace postern {
namespace {

// Straight to its place: a record put together elsewhere would be loaded again before its parts
// have left the store buffer.
void write_record(std::byte* place, const ParsedPacket& p) noexcept {
  new (place) DatagramRecord{.length = p.payload_length,
                             .port = p.source_port,
                             .flags = 0,
                             .tos = p.tos,
                             .address = p.source,
                             .local = p.destination,
                             .ttl = p.ttl,
                             .is_v6 = p.is_v6,
                             .interface = p.interface,
                             .reserved = 0};
}

// Short ones without a call.
void copy_payload(std::byte* to, const std::byte* from, uint32_t n) noexcept {
  constexpr uint32_t kHalf = 16;
  if (n - kHalf > kHalf) {
    std::memcpy(to, from, n);
    return;
  }
  std::memcpy(to, from, kHalf);
  std::memcpy(to + n - kHalf, from + n - kHalf, kHalf);
}

void write_datagram(std::byte* place, const RxPacket& packet, const ParsedPacket& p) noexcept {
  write_record(place, p);
  copy_payload(place + sizeof(DatagramRecord), packet.data + p.payload_offset, p.payload_length);
}

// Datagrams for a socket behind each other into the chunk that it has, as far as it reaches.
class Filling {
 public:
  Filling(RxChain& rx, const ChunkPool& pool, uint32_t limit) noexcept
      : rx_(rx), place_(rx.rest_of_chunk(pool).data()) {
    const auto room = static_cast<uint32_t>(rx.rest_of_chunk(pool).size());
    const uint32_t unread = rx.unread();
    left_ = room_ = unread < limit ? std::min(room, limit - unread) : 0;
  }
  // False: there is no room.
  [[nodiscard]] bool append(const RxPacket& packet, const ParsedPacket& p) noexcept {
    const uint32_t size = datagram_record_size(p.payload_length);
    if (size > left_) return false;
    write_datagram(place_, packet, p);
    place_ += size;
    left_ -= size;
    return true;
  }
  void finish() noexcept { rx_.advance_in_chunk(room_ - left_); }

 private:
  RxChain& rx_;
  std::byte* place_;
  uint32_t room_;
  uint32_t left_;
};

}  // namespace

Drop StackCore::udp_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const Endpoint local{p.destination, p.destination_port};
  const Endpoint remote{p.source, p.source_port};
  const UdpTable::Found found = udp_table_.find(local, remote);
  if (found.socket != UdpTable::kNone) {
    if (found.whoever_sends && p.vlan == 0) known_udp_ = {p, found.socket};
    return udp_deliver(udp_[found.socket], packet, p);
  }
  const Drop drop =
      udp_table_.connected_on(local.port) ? Drop::udp_not_connected_peer : Drop::udp_no_socket;
  const Drop excepted = except(packet, p, drop);
  if (excepted == drop) icmp_port_unreachable(packet, p);
  return excepted;
}

Drop StackCore::udp_deliver(UdpSocket& socket, const RxPacket& packet,
                            const ParsedPacket& p) noexcept {
  if (socket.read_shutdown) return Drop::udp_socket_full;
  ChunkPool& pool = apps_[socket.app].pool;
  RxChain& rx = socket.rx;
  const uint32_t size = datagram_record_size(p.payload_length);
  if (rx.unread() + size > socket.receive_limit) return Drop::udp_socket_full;
  if (const auto place = rx.rest_of_chunk(pool); place.size() >= size) {
    write_datagram(place.data(), packet, p);
    rx.advance_in_chunk(size);
  } else {
    const uint32_t at = rx.tail();
    if (!rx.can_cover(pool, at + size)) return Drop::app_rx_memory;
    std::array<std::byte, sizeof(DatagramRecord)> record;
    write_record(record.data(), p);
    rx.store(pool, at, record.data(), record.size());
    rx.store(pool, at + sizeof(DatagramRecord), packet.data + p.payload_offset, p.payload_length);
    rx.advance_tail(pool, at + size);
  }
  counters.add(Counter::udp_rx_datagrams);
  tell(socket, news::update | news::urgent);
  return Drop::none;
}

size_t StackCore::udp_run(const RxPacket* packets, const ParsedPacket* parsed, size_t n) noexcept {
  const PacketTarget target = known_udp_.target;
  UdpSocket& socket = udp_[known_udp_.socket];
  Filling filling(socket.rx, apps_[socket.app].pool,
                  socket.read_shutdown ? 0 : socket.receive_limit);
  size_t i = 0;
  uint32_t stored = 0;
  for (; i < n && parsed[i] == target; ++i) {
    if (const Drop drop = check_source(parsed[i]); drop != Drop::none) [[unlikely]] {
      counters.drop(drop);
      continue;
    }
    if (!filling.append(packets[i], parsed[i])) break;
    ++stored;
  }
  if (stored != 0) {
    filling.finish();
    counters.add(Counter::udp_rx_datagrams, stored);
    tell(socket, news::update | news::urgent);
  }
  if (i != 0) return i;
  if (const Drop drop = udp_deliver(socket, *packets, *parsed); drop != Drop::none) {
    counters.drop(drop);
  }
  return 1;
}

}  // namespace postern
