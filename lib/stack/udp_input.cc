// UDP received: RFC 768, RFC 1122 4.1.
#include <array>
#include <cstring>
#include <new>

#include "stack/core.h"
#include "udp/datagram.h"

namespace postern {
namespace {

// Field by field to its place: a record put together elsewhere would be loaded again before its
// parts have left the store buffer.
void write_record(std::byte* place, const ParsedPacket& p) noexcept {
  auto* const record = new (place) DatagramRecord;
  record->length = p.payload_length;
  record->port = p.source_port;
  record->flags = 0;
  record->tos = p.tos;
  record->address = p.source;
  record->local = p.destination;
  record->ttl = p.ttl;
  record->is_v6 = p.is_v6;
  record->interface = p.interface;
  record->reserved = 0;
}

}  // namespace

Drop StackCore::udp_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const Endpoint local{p.destination, p.destination_port};
  const Endpoint remote{p.source, p.source_port};
  const UdpTable::Found found = udp_table_.find(local, remote);
  if (found.socket != UdpTable::kNone) {
    if (found.whoever_sends) known_udp_ = {local, found.socket};
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
  if (std::byte* const place = rx.next_in_chunk(pool, size); place != nullptr) {
    write_record(place, p);
    std::memcpy(place + sizeof(DatagramRecord), packet.data + p.payload_offset, p.payload_length);
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

}  // namespace postern
