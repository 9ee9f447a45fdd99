// UDP received: RFC 768, RFC 1122 4.1.
#include "stack/core.h"
#include "udp/datagram.h"

namespace postern {

Drop StackCore::udp_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const Endpoint local{p.destination, p.destination_port};
  const Endpoint remote{p.source, p.source_port};
  const uint32_t index = udp_table_.find(local, remote);
  if (index != UdpTable::kNone) return udp_deliver(udp_[index], packet, p);
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
  const uint32_t at = rx.tail();
  if (!rx.can_cover(pool, at + size)) return Drop::app_rx_memory;
  const DatagramRecord record{.length = p.payload_length,
                              .port = p.source_port,
                              .flags = 0,
                              .tos = p.tos,
                              .address = p.source,
                              .local = p.destination,
                              .ttl = p.ttl,
                              .is_v6 = p.is_v6,
                              .interface = p.interface,
                              .reserved = 0};
  rx.store(pool, at, reinterpret_cast<const std::byte*>(&record), sizeof record);
  rx.store(pool, at + sizeof record, packet.data + p.payload_offset, p.payload_length);
  rx.advance_tail(pool, at + size);
  counters.add(Counter::udp_rx_datagrams);
  tell(socket, news::update | news::urgent);
  return Drop::none;
}

}  // namespace postern
