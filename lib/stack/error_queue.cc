// What is told of single datagrams (IP_RECVERR, IPV6_RECVERR): kept here until the data plane takes
// it, in the same turn.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "stack/core.h"

namespace postern {

bool StackCore::take_error(SocketError* error) noexcept {
  ErrorQueue& q = errors_;
  if (q.taken == q.count) {
    q.taken = q.count = 0;
    return false;
  }
  *error = q.entries[q.taken++];
  return true;
}

void StackCore::queue_error(UdpSocket& socket, SocketError& error) noexcept {
  if (!socket.owned || socket.closed || errors_.count == ErrorQueue::kRoom) return;
  error.socket = {socket.app, socket.slot, socket.generation};
  errors_.entries[errors_.count++] = error;
  tell(socket, news::queued | news::urgent);
}

void StackCore::queue_local_error(UdpSocket& socket, const Endpoint& remote, int error,
                                  uint32_t mtu) noexcept {
  SocketError e;
  e.error = static_cast<uint16_t>(error);
  e.destination = remote;
  // As Linux: of IPv4 the port is that of the peer, if it has one.
  if (remote.address.is_v4()) {
    e.destination.port = udp_table_.binding(udp_.index_of(&socket)).remote.port;
  }
  e.info = mtu;
  queue_error(socket, e);
}

void StackCore::queue_icmp_error(UdpSocket& socket, const RxPacket& packet, const ParsedPacket& p,
                                 const wire::QuotedPacket& quoted,
                                 const IcmpReport& report) noexcept {
  const auto type = static_cast<uint8_t>(p.source_port >> 8);
  be32 rest;
  std::memcpy(&rest, packet.data + p.l4_offset + 4, sizeof rest);
  SocketError e;
  e.error = static_cast<uint16_t>(report.error);
  e.origin = p.is_v6 ? SocketError::kIcmp6 : SocketError::kIcmp;
  e.type = type;
  e.code = static_cast<uint8_t>(p.source_port);
  e.ttl = p.ttl;
  e.interface = p.interface;
  e.offender = p.source;
  e.destination = {quoted.destination, quoted.destination_port};
  if (report.error == EMSGSIZE) {
    e.info = report.mtu;
  } else if (p.is_v6 && type == wire::icmp6::parameter_problem) {
    e.info = rest.host();
  } else if (!p.is_v6 && type == wire::icmp4::parameter_problem) {
    e.info = rest.host() >> 24;
  }
  e.length = static_cast<uint16_t>(std::min(quoted.payload.size(), SocketError::kPayload));
  std::memcpy(e.payload.data(), quoted.payload.data(), e.length);
  queue_error(socket, e);
}

// What a host tells itself: an unreachable address from one of its own.
void StackCore::tell_unreachable(const TxFrame& lost) noexcept {
  if (lost.protocol != static_cast<uint8_t>(Protocol::udp)) return;
  RxPacket packet;
  packet.data = lost.data;
  packet.length = lost.length;
  packet.ip_checksum = packet.l4_checksum = ChecksumVerdict::good;
  const ParsedPacket p = wire::parse(packet);
  if (p.drop != Drop::none || p.fragment || p.kind != PacketKind::udp) return;
  const Endpoint remote{p.destination, p.destination_port};
  const uint32_t index = udp_table_.find({p.source, p.source_port}, remote).socket;
  if (index == UdpTable::kNone) return;
  UdpSocket& socket = udp_[index];
  const bool wanted = wants_errors(socket, remote.address);
  if (!wanted && udp_table_.binding(index).remote != remote) return;
  if (wanted) {
    SocketError e;
    e.error = EHOSTUNREACH;
    e.origin = p.is_v6 ? SocketError::kIcmp6 : SocketError::kIcmp;
    e.type = p.is_v6 ? wire::icmp6::unreachable : wire::icmp4::unreachable;
    e.code = p.is_v6 ? wire::icmp6::address : wire::icmp4::host;
    e.ttl = default_ttl(lost.interface, p.is_v6);
    e.interface = lost.interface;
    e.offender = p.source;
    e.destination = remote;
    e.length = static_cast<uint16_t>(std::min<size_t>(p.payload_length, SocketError::kPayload));
    std::memcpy(e.payload.data(), packet.data + p.payload_offset, e.length);
    queue_error(socket, e);
  }
  tell_error(socket, EHOSTUNREACH);
}

void StackCore::tell_soft_error(TcpSocket& socket, const wire::QuotedPacket& quoted,
                                int error) noexcept {
  if (socket.tcp.state() == TcpState::closed || !wants_errors(socket, quoted.destination) ||
      !socket.tcp.in_flight(quoted.tcp_seq) || (socket.news & news::error) != 0) {
    return;
  }
  socket.error = static_cast<uint16_t>(error);
  tell(socket, news::queued | news::urgent);
}

}  // namespace postern
