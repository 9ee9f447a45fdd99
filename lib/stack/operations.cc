// What applications ask for. Every number comes from an application: it is checked here or by the
// caller as stack.h says, and a contradiction is EPROTO.
#include <algorithm>
#include <cerrno>

#include "stack/core.h"
#include "stack/socket_option.h"
#include "udp/datagram.h"

namespace postern {

// ---- opening ----

int StackCore::open_tcp(SocketRef ref, Time now) noexcept {
  set_now(now);
  TcpSocket* socket = create_tcp();
  if (socket == nullptr) return ENOBUFS;
  if (!apps_[ref.app].open_client_slot(ref.slot, ref.generation, SocketKind::tcp,
                                       tcp_.index_of(socket))) {
    destroy_unused(*socket);
    return EPROTO;
  }
  own(*socket, ref.app, ref.slot, ref.generation);
  return 0;
}

int StackCore::bind_udp(SocketRef ref, const Endpoint& local, bool v6_only) noexcept {
  UdpSocket* socket = udp_.create();
  if (socket == nullptr) return ENOBUFS;
  const uint32_t index = udp_.index_of(socket);
  if (!apps_[ref.app].open_client_slot(ref.slot, ref.generation, SocketKind::udp, index)) {
    udp_.destroy(socket);
    return EPROTO;
  }
  socket->receive_limit = kUdpReceiveLimit;
  own(*socket, ref.app, ref.slot, ref.generation);
  udp_table_.insert(index, {local, {}, v6_only});
  socket->bound = true;
  return 0;
}

int StackCore::listen(SocketRef ref, const Endpoint& local, uint32_t backlog,
                      bool v6_only) noexcept {
  Listener* listener = listeners_.create();
  if (listener == nullptr) return ENOBUFS;
  const uint32_t index = listeners_.index_of(listener);
  listener->local = local;
  listener->backlog = std::max<uint32_t>(backlog, 1);
  if (!enter_listener(*listener, v6_only)) {
    listeners_.destroy(listener);
    return ENOBUFS;
  }
  if (!apps_[ref.app].open_client_slot(ref.slot, ref.generation, SocketKind::listener, index)) {
    withdraw_listener(*listener);
    listeners_.destroy(listener);
    return EPROTO;
  }
  own(*listener, ref.app, ref.slot, ref.generation);
  return 0;
}

// ---- connecting ----

int StackCore::connect(SocketRef ref, const Endpoint& local, const Endpoint& remote, Time now,
                       uint16_t zone) noexcept {
  set_now(now);
  Socket* socket = find_socket(ref);
  if (socket == nullptr || socket->closed) return ESTALE;
  if (socket->kind == SocketKind::udp) {
    udp_connect(static_cast<UdpSocket&>(*socket), remote, zone);
    return 0;
  }
  if (socket->kind != SocketKind::tcp) return EPROTO;
  auto& tcp = static_cast<TcpSocket&>(*socket);
  if (tcp.opened) return EISCONN;
  if (const int error = tcp_active_open(tcp, local, remote, zone); error != 0) {
    counters.add(Counter::tcp_failed_opens);
    tell_error(tcp, error);
    return 0;
  }
  settle(tcp);
  return 0;
}

// A remote port of 0 dissolves the association.
void StackCore::udp_connect(UdpSocket& socket, const Endpoint& remote, uint16_t zone) noexcept {
  socket.zone = zone;
  const uint32_t index = udp_.index_of(&socket);
  UdpBinding binding = udp_table_.binding(index);
  binding.remote = remote.port == 0 ? Endpoint{} : remote;
  udp_table_.remove(index);
  udp_table_.insert(index, binding);
}

// ---- sending ----

int StackCore::send(SocketRef ref, uint64_t offset, uint32_t length, bool more, bool want_tx,
                    Time now, const uint32_t* rx_head) noexcept {
  set_now(now);
  auto* socket = find_kind<TcpSocket>(ref, SocketKind::tcp);
  if (socket == nullptr || socket->closed) return ESTALE;
  if (rx_head != nullptr && consume(*socket, *rx_head) != 0) return EPROTO;
  if (!apps_[ref.app].range_ok(offset, length)) return EPROTO;
  socket->want_tx = want_tx;
  if (length != 0) {
    if (socket->tx.outstanding() + length > kMaxOutstanding) return EPROTO;
    // After a failure or a shutdown nobody takes it; the error was or will be told.
    if (socket->network_done || socket->app_storage_free || socket->write_shutdown) return EPIPE;
    switch (socket->tx.append(extents_, offset, length)) {
      case TxQueue::Result::ok:
        break;
      case TxQueue::Result::too_many:
        return EPROTO;
      case TxQueue::Result::no_memory:
        tell_error(*socket, ENOBUFS);
        close_tcp(*socket, true);
        return ENOBUFS;
    }
    socket->tcp.on_send(ctx_, length, more);
    // Egress settles what it visits, in the same turn.
    if (socket->tcp.wants_output()) {
      make_ready(*socket);
    } else {
      settle(*socket);
    }
  }
  if (want_tx) tell_acked(*socket, socket->tx.begin(), socket->tx.outstanding());
  return 0;
}

int StackCore::mark_urgent(SocketRef ref, Time now) noexcept {
  set_now(now);
  auto* socket = find_kind<TcpSocket>(ref, SocketKind::tcp);
  if (socket == nullptr || socket->closed) return ESTALE;
  if (socket->network_done || socket->app_storage_free || socket->write_shutdown) return EPIPE;
  socket->tcp.on_urgent();
  if (socket->tcp.wants_output()) make_ready(*socket);
  return 0;
}

int StackCore::send_datagram(SocketRef ref, uint64_t record_bytes, uint64_t offset, uint32_t length,
                             const IpAddress& local, const Endpoint& remote, uint8_t tos,
                             uint8_t ttl, Time now, bool want_tx, uint16_t zone,
                             const uint32_t* rx_head) noexcept {
  set_now(now);
  auto* socket = find_kind<UdpSocket>(ref, SocketKind::udp);
  if (socket == nullptr || socket->closed) return ESTALE;
  if (rx_head != nullptr && consume(*socket, *rx_head) != 0) return EPROTO;
  if (!apps_[ref.app].range_ok(offset, length)) return EPROTO;
  socket->want_tx = want_tx;
  const uint64_t outstanding = socket->tx_tail - socket->tx_acked;
  if (record_bytes < datagram_record_size(length) || outstanding + record_bytes > kMaxOutstanding) {
    return EPROTO;
  }
  const auto bytes = static_cast<uint32_t>(record_bytes);
  socket->tx_tail += bytes;
  const UdpBinding& binding = udp_table_.binding(udp_.index_of(socket));
  const Endpoint& to = remote.port != 0 ? remote : binding.remote;
  const bool as_bound = local.is_any() && !is_many(binding.local.address);
  const IpAddress& from = as_bound ? binding.local.address : local;
  if (const int error = check_datagram(from, to, length); error != 0) {
    tell_error(*socket, error);
    udp_lost(*socket, bytes);
  } else if (UdpSend* const item = udp_queue(*socket); item != nullptr) {
    item->offset = offset;
    item->length = length;
    item->record_bytes = bytes;
    item->remote = to;
    item->local = from;
    item->tos = tos;
    item->ttl = ttl;
    item->zone = remote.port == 0 ? socket->zone : zone;
  } else {
    counters.drop(Drop::udp_send_full);
    udp_lost(*socket, bytes);
  }
  return 0;
}

// Where a datagram is to come from and go, as sendto() checks it.
int StackCore::check_datagram(const IpAddress& from, const Endpoint& to,
                              uint32_t length) const noexcept {
  if (to.port == 0) return EDESTADDRREQ;
  if (length > kMaxUdpPayload4) return EMSGSIZE;
  if (from.is_any()) return 0;
  if (!interfaces_.is_local(from)) return EADDRNOTAVAIL;
  return from.is_v4() == to.address.is_v4() ? 0 : EAFNOSUPPORT;
}

// A place at the end of the queue; nullptr: there is none.
UdpSend* StackCore::udp_queue(UdpSocket& socket) noexcept {
  if (socket.send_count >= kUdpSendLimit) return nullptr;
  UdpSend* const queued = udp_sends_.create();
  if (queued == nullptr) return nullptr;
  const uint32_t index = udp_sends_.index_of(queued);
  (socket.send_tail == kNoIndex ? socket.send_head : udp_sends_[socket.send_tail].next) = index;
  socket.send_tail = index;
  ++socket.send_count;
  make_ready(socket);
  return queued;
}

// A datagram that is not sent gives its storage back in its turn.
void StackCore::udp_lost(UdpSocket& socket, uint32_t record_bytes) noexcept {
  if (socket.send_tail != kNoIndex) {
    udp_sends_[socket.send_tail].record_bytes += record_bytes;
    return;
  }
  socket.tx_acked += record_bytes;
  tell_acked(socket, socket.tx_acked, socket.tx_tail - socket.tx_acked);
}

// ---- receiving ----

int StackCore::consumed(SocketRef ref, uint32_t rx_head, Time now) noexcept {
  set_now(now);
  Socket* socket = find_socket(ref);
  if (socket == nullptr || socket->closed) return ESTALE;
  return consume(*socket, rx_head);
}

int StackCore::consume(Socket& socket, uint32_t rx_head) noexcept {
  RxChain& rx = socket.rx;
  if (seq_le(rx_head, rx.head())) return 0;
  if (seq_gt(rx_head, rx.tail())) return EPROTO;
  rx.consume(apps_[socket.app].pool, rx_head);
  if (socket.kind != SocketKind::tcp) return 0;
  auto& tcp = static_cast<TcpSocket&>(socket);
  if (tcp.network_done) return 0;
  tcp.tcp.on_consumed(tcp_context(tcp), rx_head);
  if (tcp.tcp.wants_output()) make_ready(tcp);
  return 0;
}

// Nobody will read what has arrived.
void StackCore::discard_unread(TcpSocket& socket) noexcept {
  socket.rx.consume(apps_[socket.app].pool, socket.rx.tail());
  socket.tcp.on_consumed(tcp_context(socket), socket.rx.tail());
}

// ---- ending ----

int StackCore::shutdown(SocketRef ref, bool read, bool write, Time now) noexcept {
  set_now(now);
  Socket* socket = find_socket(ref);
  if (socket == nullptr || socket->closed) return ESTALE;
  // The client may still be reading what it has been told of: only what comes later is discarded.
  if (read) socket->read_shutdown = true;
  if (socket->kind != SocketKind::tcp || !write) return 0;
  auto& tcp = static_cast<TcpSocket&>(*socket);
  tcp.write_shutdown = true;
  if (tcp.network_done) return 0;
  tcp.tcp.on_shutdown_write(tcp_context(tcp));
  settle(tcp);
  return 0;
}

int StackCore::close(SocketRef ref, bool abort, uint32_t rx_head, Time now) noexcept {
  set_now(now);
  Socket* socket = find_socket(ref);
  if (socket == nullptr || socket->closed) return ESTALE;
  if (const int error = consumed(ref, rx_head, now); error != 0) return error;
  close_socket(*socket, abort);
  reap();
  return 0;
}

int StackCore::accepted(SocketRef ref, uint32_t count, Time now) noexcept {
  set_now(now);
  auto* listener = find_kind<Listener>(ref, SocketKind::listener);
  if (listener == nullptr) return ESTALE;
  if (count > listener->unaccepted) return EPROTO;
  listener->unaccepted -= count;
  return 0;
}

// ---- options ----

namespace {

// The engine's option, false if it is none of the engine's.
bool engine_option(SocketOption option, TcpOption* out) {
  switch (option) {
    case SocketOption::nodelay:
      *out = TcpOption::nodelay;
      return true;
    case SocketOption::cork:
      *out = TcpOption::cork;
      return true;
    case SocketOption::keepalive:
      *out = TcpOption::keepalive;
      return true;
    case SocketOption::keepalive_idle:
      *out = TcpOption::keepalive_idle;
      return true;
    case SocketOption::keepalive_interval:
      *out = TcpOption::keepalive_interval;
      return true;
    case SocketOption::keepalive_probes:
      *out = TcpOption::keepalive_probes;
      return true;
    case SocketOption::user_timeout:
      *out = TcpOption::user_timeout;
      return true;
    case SocketOption::receive_buffer:
      *out = TcpOption::receive_buffer;
      return true;
    case SocketOption::send_buffer:
      *out = TcpOption::send_buffer;
      return true;
    case SocketOption::max_segment:
      *out = TcpOption::max_segment;
      return true;
    case SocketOption::quick_ack:
      *out = TcpOption::quick_ack;
      return true;
    case SocketOption::congestion:
      *out = TcpOption::congestion;
      return true;
    case SocketOption::pacing_rate:
      *out = TcpOption::pacing_rate;
      return true;
    default:
      return false;
  }
}

// Options that every kind of socket with a TOS and a TTL has.
template <class T>
int set_ip_option(T& socket, SocketOption option, uint32_t value) {
  if (option == SocketOption::tos) {
    if (value > 255) return EINVAL;
    socket.tos = static_cast<uint8_t>(value);
    return 0;
  }
  if (option == SocketOption::ttl) {
    if (value < 1 || value > 255) return EINVAL;
    socket.ttl = static_cast<uint8_t>(value);
    return 0;
  }
  if (option == SocketOption::receive_errors) {
    if (value > 3) return EINVAL;
    socket.receive_errors = static_cast<uint8_t>(value);
    return 0;
  }
  return ENOPROTOOPT;
}

// 0, EINVAL, or ENOPROTOOPT: none of these.
int set_group_option(UdpSocket& socket, SocketOption option, uint32_t value, size_t interfaces) {
  const bool flag = value != 0;
  switch (option) {
    case SocketOption::broadcast:
      socket.broadcast = flag;
      return 0;
    case SocketOption::group_loop:
      socket.group_loop = flag;
      return 0;
    case SocketOption::group_others:
      socket.group_others = flag;
      return 0;
    case SocketOption::group_ttl:
      if (value > 255) return EINVAL;
      socket.group_ttl = static_cast<uint8_t>(value);
      return 0;
    case SocketOption::group_interface:
      if (value > interfaces) return EINVAL;
      socket.group_interface = static_cast<uint16_t>(value);
      return 0;
    default:
      return ENOPROTOOPT;
  }
}

int set_udp_option(UdpSocket& socket, SocketOption option, uint32_t value) {
  if (option == SocketOption::mtu_discover) {
    if (value < 1 || value > 1 + static_cast<uint32_t>(MtuDiscover::probe)) return EINVAL;
    socket.mtu_discover = static_cast<MtuDiscover>(value - 1);
    return 0;
  }
  if (option != SocketOption::receive_buffer) return set_ip_option(socket, option, value);
  socket.receive_limit = std::clamp<uint32_t>(value, 4096, kMaxOutstanding);
  return 0;
}

}  // namespace

// Kept for those who are accepted. Whether they will take it a connection says that is never
// opened.
int StackCore::set_listener_option(Listener& listener, SocketOption option,
                                   uint32_t value) noexcept {
  TcpOption engine;
  if (!engine_option(option, &engine)) return set_ip_option(listener, option, value);
  if (TcpConnection probe; !probe.set_option(listener_context(listener), engine, value)) {
    return EINVAL;
  }
  if (engine == TcpOption::quick_ack) return 0;
  const auto i = static_cast<size_t>(engine);
  listener.options[i] = value;
  listener.options_set = static_cast<uint16_t>(listener.options_set | 1U << i);
  return 0;
}

int StackCore::set_option(SocketRef ref, uint16_t option, uint32_t value, Time now) noexcept {
  set_now(now);
  Socket* socket = find_socket(ref);
  if (socket == nullptr || socket->closed) return ESTALE;
  const auto name = static_cast<SocketOption>(option);
  if (socket->kind == SocketKind::listener) {
    return set_listener_option(static_cast<Listener&>(*socket), name, value);
  }
  if (socket->kind == SocketKind::udp) {
    auto& udp = static_cast<UdpSocket&>(*socket);
    const int error = set_group_option(udp, name, value, interfaces_.size());
    return error != ENOPROTOOPT ? error : set_udp_option(udp, name, value);
  }
  auto& tcp = static_cast<TcpSocket&>(*socket);
  TcpOption engine;
  if (!engine_option(name, &engine)) return set_ip_option(tcp, name, value);
  if (!tcp.tcp.set_option(tcp_context(tcp), engine, value)) return EINVAL;
  if (!tcp.network_done) settle(tcp);
  return 0;
}

}  // namespace postern
