// TCP segments to their connections, and what connections have to report.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "stack/core.h"
#include "wire/build.h"

namespace postern {

Drop StackCore::tcp_input(const RxPacket& packet, const ParsedPacket& p, uint32_t flow) noexcept {
  TcpSegment segment;
  if (const Drop drop = wire::parse_tcp(packet, p, &segment); drop != Drop::none) return drop;
  // The burst was looked up before its first packet was handled: flows may have come and gone.
  if (flow == kNoFlow || tcp_[flow].network_done) {
    flow = flows_.find(key_of_packet(p), key_of());
    if (flow == kNoFlow) return tcp_unmatched(packet, p, segment);
  }
  TcpSocket& socket = tcp_[flow];
  if (socket.interface == interfaces_.loop() && forged(p)) return Drop::ip_source_ours;
  if (socket.tcp.state() == TcpState::time_wait && socket.tcp.may_reopen(segment)) {
    return tcp_reopen(socket, p, segment);
  }
  if (run_.count > 1) join_run(segment);
  return tcp_segment(socket, segment, packet.data + p.payload_offset);
}

// Of several segments that continue each other, one.
void StackCore::join_run(TcpSegment& segment) noexcept {
  for (size_t i = 1; i < run_.count; ++i) {
    segment.length += run_.parsed[i].payload_length;
    segment.flags |= run_.parsed[i].tcp_flags;
  }
  counters.add(Counter::tcp_rx_segments, run_.count - 1);
  counters.add(Counter::tcp_rx_coalesced, run_.count - 1);
}

// What was accepted, out of the packets of the run.
void StackCore::store_run(TcpSocket& socket, const TcpInput& in) noexcept {
  ChunkPool& pool = apps_[socket.app].pool;
  uint32_t begin = 0;  // of a packet's payload in the segment
  for (size_t i = 0; i < run_.count; ++i) {
    const ParsedPacket& p = run_.parsed[i];
    const uint32_t from = std::max(begin, in.skip);
    const uint32_t to = std::min(begin + p.payload_length, in.skip + in.length);
    if (from < to) {
      const std::byte* const bytes = run_.packets[i].data + p.payload_offset + (from - begin);
      socket.rx.store(pool, in.position + (from - in.skip), bytes, to - from);
    }
    begin += p.payload_length;
  }
}

Drop StackCore::tcp_segment(TcpSocket& socket, const TcpSegment& segment,
                            const std::byte* payload) noexcept {
  if (!socket.in_batch) {
    if (batch_size_ == kBurst) settle_batch();
    socket.in_batch = true;
    batch_[batch_size_++] = &socket;
  }
  TcpContext& ctx = tcp_context(socket);
  const TcpInput in = socket.tcp.on_segment(ctx, segment);
  // The first data may come with the handshake's last segment: it needs a place first.
  if (in.accept_data && !socket.owned) events_before_data(socket);
  if (in.accept_data && socket.owned && !socket.closed) {
    if (run_.count > 1) {
      store_run(socket, in);
    } else {
      socket.rx.store(apps_[socket.app].pool, in.position, payload + in.skip, in.length);
    }
  }
  if (in.drop == Drop::tcp_window_full && ctx.receive_room < segment.length && !socket.closed) {
    return Drop::app_rx_memory;
  }
  return in.drop;
}

void StackCore::events_before_data(TcpSocket& socket) noexcept {
  const uint16_t events = socket.tcp.take_events();
  if ((events & tcp_event::connected) != 0) on_connected(socket);
  socket.pending_events |= static_cast<uint16_t>(events & ~tcp_event::connected);
}

// The application for which a connection in handshake is meant.
uint16_t StackCore::app_of_listener(const TcpSocket& socket) const noexcept {
  const Listener* listener = listeners_.get(socket.listener);
  return listener == nullptr ? kNoApp : listener->app;
}

// RFC 9293 3.10.7.1 and 3.10.7.2: CLOSED and LISTEN.
Drop StackCore::tcp_unmatched(const RxPacket& packet, const ParsedPacket& p,
                              const TcpSegment& segment) noexcept {
  const uint32_t index = listener_of(p);
  const bool syn =
      (segment.flags & (tcp_flag::syn | tcp_flag::ack | tcp_flag::rst)) == tcp_flag::syn;
  if (index == kNoListener) {
    const Drop excepted = except(packet, p, Drop::tcp_no_socket);
    if (excepted != Drop::tcp_no_socket) return excepted;
  } else {
    if (!syn && answers_kernel(p)) return pass(packet, p, true);
    if ((segment.flags & tcp_flag::rst) != 0) return Drop::tcp_no_socket;
    Listener& listener = listeners_[index];
    if (syn) return tcp_passive_open(listener, p, segment, 0, false);
    if ((segment.flags & (tcp_flag::syn | tcp_flag::ack)) == tcp_flag::ack &&
        now_ < listener.cookies_until) {
      return cookie_open(listener, packet, p, segment);
    }
  }
  tcp_reset(p, segment);
  return Drop::tcp_no_socket;
}

// RFC 6191: a SYN that proves to be newer than the connection in TIME-WAIT replaces it.
Drop StackCore::tcp_reopen(TcpSocket& old, const ParsedPacket& p,
                           const TcpSegment& segment) noexcept {
  const uint32_t index = listener_of(p);
  if (index == kNoListener) return tcp_segment(old, segment, nullptr);
  const uint32_t isn = old.tcp.safe_isn();
  old.tcp.on_abort(tcp_context(old));
  settle(old);
  return tcp_passive_open(listeners_[index], p, segment, isn, true);
}

void StackCore::tcp_reset(const ParsedPacket& p, const TcpSegment& segment) noexcept {
  TcpSegment reset;
  if (!reset_for(segment, reset) || !reset_limit_.take(now_)) return;
  TxFrame* frame = begin_control();
  if (frame == nullptr) return;
  const auto length = static_cast<uint32_t>(wire::tcp_header_length(reset));
  std::byte* l4 = begin_ip(*frame, p.interface, MacAddress{},
                           {.source = p.destination,
                            .destination = p.source,
                            .protocol = p.protocol,
                            .ttl = default_ttl(p.interface, p.is_v6),
                            .payload_length = length});
  wire::write_tcp(l4, p.destination_port, p.source_port, reset);
  wire::finish_checksum(l4, length, 0, 0, p.destination, p.source, Protocol::tcp);
  counters.add(Counter::tcp_resets_sent);
  counters.add(Counter::tcp_tx_segments);
  finish_control(*frame, p.source);
}

// ---- after the engine was called ----

void StackCore::settle_batch() noexcept {
  for (size_t i = 0; i < batch_size_; ++i) {
    batch_[i]->in_batch = false;
    settle(*batch_[i]);
  }
  batch_size_ = 0;
}

void StackCore::settle(TcpSocket& socket) noexcept {
  const uint16_t events = socket.tcp.take_events() | std::exchange(socket.pending_events, 0);
  if (events != 0) on_tcp_events(socket, events);
  if (socket.network_done) return;
  if (socket.tcp.wants_output()) make_ready(socket);
  wheel_.schedule(socket.timer, socket.tcp.next_deadline());
  if (socket.tcp.state() == TcpState::time_wait) note_time_wait(socket);
}

void StackCore::note_time_wait(TcpSocket& socket) noexcept {
  if (!static_cast<ListNode<ChildTag>&>(socket).is_linked()) time_wait_.push_back(socket);
}

void StackCore::on_tcp_events(TcpSocket& socket, uint16_t events) noexcept {
  if ((events & tcp_event::acked) != 0) on_acked(socket);
  // Before data: it needs a place.
  if ((events & tcp_event::connected) != 0) [[unlikely]]
    on_connected(socket);
  if ((events & tcp_event::readable) != 0 && socket.owned && !socket.closed) {
    socket.rx.advance_tail(apps_[socket.app].pool, socket.tcp.rx_tail());
    // What came after SHUT_RD is discarded, once all that was told before has been read.
    if (socket.read_shutdown && socket.rx.head() == socket.told_rx_tail) {
      discard_unread(socket);
    } else {
      tell(socket, news::update | news::urgent);
    }
  }
  constexpr uint16_t kFrequent = tcp_event::acked | tcp_event::readable;
  if ((events & ~kFrequent) != 0) on_rare_events(socket, events);
}

void StackCore::on_rare_events(TcpSocket& socket, uint16_t events) noexcept {
  if ((events & tcp_event::urgent) != 0) tell(socket, news::mark | news::urgent);
  if ((events & tcp_event::peer_fin) != 0) tell(socket, news::eof | news::urgent);
  if ((events & tcp_event::failed) != 0) tell_error(socket, socket.tcp.error());
  if ((events & tcp_event::released) != 0) {
    socket.app_storage_free = true;
    if (socket.owned) socket.tx.clear(extents_);
    if (socket.closed) release(socket);
  }
  if ((events & tcp_event::finished) != 0) network_end(socket);
}

void StackCore::on_acked(TcpSocket& socket) noexcept {
  if (!socket.owned) return;
  neighbors_.confirm(socket.neighbor, now_);
  socket.tx.release(extents_, socket.tcp.tx_acked());
  tell_acked(socket, socket.tx.begin(), socket.tx.outstanding());
}

void StackCore::on_connected(TcpSocket& socket) noexcept {
  socket.tcp.set_max_segment_burst(segment_burst(socket));
  Listener* listener = listeners_.get(socket.listener);
  if (listener == nullptr) {
    tell(socket, news::connected | news::urgent);
    return;
  }
  uncount_backlog(socket);
  AppState& app = apps_[listener->app];
  uint32_t slot = 0;
  uint32_t generation = 0;
  if (!app.open_daemon_slot(SocketKind::tcp, tcp_.index_of(&socket), &slot, &generation)) {
    counters.drop(Drop::app_sockets_full);
    leave_listener(socket);
    socket.closed = true;
    socket.tcp.on_abort(tcp_context(socket));
    return;
  }
  ++listener->unaccepted;
  own(socket, listener->app, slot, generation);
  tell(socket, news::accept | news::urgent);
}

// The network side is over: the tuple is free, the timer off. What the application has not read
// stays until it closes.
void StackCore::network_end(TcpSocket& socket) noexcept {
  socket.network_done = true;
  wheel_.cancel(socket.timer);
  static_cast<ListNode<ReadyTag>&>(socket).unlink();
  if (cut_.socket == &socket) cut_.socket = nullptr;
  if (socket.in_flow_table) flows_.erase(socket.key, tcp_.index_of(&socket));
  socket.in_flow_table = false;
  // What is still to be announced keeps its place with its listener.
  if ((socket.news & news::accept) == 0) leave_listener(socket);
  destroy_if_done(socket);
}

}  // namespace postern
