// Life of sockets and of applications.
#include <algorithm>

#include "stack/core.h"

namespace postern {

TcpSocket* StackCore::create_tcp() noexcept {
  // The next index is known only when the object is there: the timer is told afterwards.
  TcpSocket* socket = tcp_.create();
  if (socket != nullptr) socket->timer.owner = tcp_.index_of(socket);
  return socket;
}

void StackCore::destroy_unused(TcpSocket& socket) noexcept { tcp_.destroy(&socket); }

// ---- the application side ----

void StackCore::own(Socket& socket, AppId app, uint32_t slot, uint32_t generation) noexcept {
  socket.app = app;
  socket.slot = slot;
  socket.generation = generation;
  socket.owned = true;
  ++apps_[app].socket_count;
  apps_[app].sockets.push_back(socket);
}

void StackCore::disown(Socket& socket) noexcept {
  AppState& app = apps_[socket.app];
  socket.rx.clear(app.pool);
  if (socket.kind == SocketKind::tcp) static_cast<TcpSocket&>(socket).tx.clear(extents_);
  if (app.attached()) app.close_slot(socket.slot);
  --app.socket_count;
  if (socket.closed) --app.orphan_count;
  static_cast<ListNode<AppTag>&>(socket).unlink();
  static_cast<ListNode<TouchedTag>&>(socket).unlink();
  socket.news = 0;
  socket.owned = false;
  socket.app = kNoApp;
  socket.slot = kNoSlot;
}

void StackCore::mark_closed(Socket& socket) noexcept {
  if (socket.closed) return;
  socket.closed = true;
  socket.news = 0;
  static_cast<ListNode<TouchedTag>&>(socket).unlink();
  if (!socket.owned) return;
  ++apps_[socket.app].orphan_count;
  socket.rx.clear(apps_[socket.app].pool);
}

void StackCore::release(Socket& socket) noexcept {
  if (!socket.owned) return;
  if (!apps_[socket.app].detaching) {
    tell(socket, news::released | news::urgent);
    return;
  }
  disown(socket);
  destroy_if_done(socket);
}

void StackCore::destroy_if_done(Socket& socket) noexcept {
  if (socket.owned || !socket.network_done || socket.dead) return;
  socket.dead = true;
  static_cast<ListNode<ReadyTag>&>(socket).unlink();
  dead_.push_back(socket);
}

// Objects go here and nowhere else, between two packets' or operations' work.
void StackCore::reap() noexcept {
  while (Socket* socket = dead_.pop_front()) {
    switch (socket->kind) {
      case SocketKind::tcp:
        tcp_.destroy(static_cast<TcpSocket*>(socket));
        break;
      case SocketKind::udp:
        udp_.destroy(static_cast<UdpSocket*>(socket));
        break;
      default:
        listeners_.destroy(static_cast<Listener*>(socket));
        break;
    }
  }
  const uint32_t room = tcp_.capacity() - tcp_.size();
  if (room <= tcp_.capacity() / 16) recycle_time_wait();
}

// The table is nearly full: connections in TIME-WAIT, the oldest first, give way to living ones.
// What is lost is protection from segments that wander in the network, not data.
void StackCore::recycle_time_wait() noexcept {
  for (int budget = kRecycleTurn; budget > 0; --budget) {
    TcpSocket* socket = time_wait_.pop_front();
    if (socket == nullptr) return;
    counters.add(Counter::tcp_time_wait_recycled);
    socket->tcp.on_abort(tcp_context(*socket));
    settle(*socket);
  }
}

// ---- closing ----

void StackCore::close_socket(Socket& socket, bool abort) noexcept {
  switch (socket.kind) {
    case SocketKind::tcp:
      return close_tcp(static_cast<TcpSocket&>(socket), abort);
    case SocketKind::udp:
      return close_udp(static_cast<UdpSocket&>(socket), abort);
    default:
      return close_listener(static_cast<Listener&>(socket));
  }
}

void StackCore::close_tcp(TcpSocket& socket, bool abort) noexcept {
  mark_closed(socket);
  if (socket.network_done || socket.app_storage_free) {
    if (!socket.network_done) {
      socket.tcp.on_close(tcp_context(socket));
      settle(socket);
    }
    release(socket);
    return;
  }
  if (abort) {
    socket.tcp.on_abort(tcp_context(socket));
  } else {
    socket.tcp.on_close(tcp_context(socket));
  }
  settle(socket);
}

// What is queued is still sent, unless the application is to vanish.
void StackCore::close_udp(UdpSocket& socket, bool abort) noexcept {
  mark_closed(socket);
  socket.network_done = true;
  socket.read_shutdown = true;
  groups_.leave_all(udp_.index_of(&socket), now_);
  if (abort) {
    while (socket.send_head != kNoIndex) {
      UdpSend& item = udp_sends_[socket.send_head];
      socket.send_head = item.next;
      udp_sends_.destroy(&item);
    }
    socket.send_tail = kNoIndex;
    socket.send_count = 0;
    static_cast<ListNode<ReadyTag>&>(socket).unlink();
  }
  if (socket.send_head == kNoIndex) udp_drained(socket);
}

// A closed socket has sent its last datagram.
void StackCore::udp_drained(UdpSocket& socket) noexcept {
  if (socket.bound) udp_table_.remove(udp_.index_of(&socket));
  socket.bound = false;
  release(socket);
}

// POSIX: connections that nobody accepted are reset. Those that were announced are the
// application's to close: it has their slots.
void StackCore::close_listener(Listener& listener) noexcept {
  mark_closed(listener);
  listener.network_done = true;
  withdraw_listener(listener);
  while (TcpSocket* child = listener.children.front()) {
    leave_listener(*child);
    if (child->owned) {
      mark_closed(*child);
      disown(*child);
    }
    child->closed = true;
    child->tcp.on_abort(tcp_context(*child));
    settle(*child);
    destroy_if_done(*child);
  }
  release(listener);
}

void StackCore::uncount_backlog(TcpSocket& socket) noexcept {
  if (!socket.counted_backlog) return;
  socket.counted_backlog = false;
  --handshakes_;
  if (Listener* listener = listeners_.get(socket.listener)) --listener->syn_received;
}

void StackCore::leave_listener(TcpSocket& socket) noexcept {
  uncount_backlog(socket);
  static_cast<ListNode<ChildTag>&>(socket).unlink();
  socket.listener = {};
}

// ---- applications ----

void StackCore::attach(AppId app, const AppMemory& memory) noexcept { apps_[app].attach(memory); }

void StackCore::detach(AppId app, Time now, bool reset) noexcept {
  set_now(now);
  AppState& state = apps_[app];
  if (!state.attached() || state.detaching) return;
  state.detaching = true;
  state.detach_reset = reset;
  detaching_.push_back(app);
  detach_some();
  reap();
}

// As the kernel does when a process ends, a bounded number of sockets a turn.
void StackCore::detach_some() noexcept {
  for (int budget = kDetachTurn; !detaching_.empty() && budget > 0; --budget) {
    AppState& app = apps_[detaching_.back()];
    Socket* socket = app.sockets.pop_front();
    if (socket == nullptr) {
      detaching_.pop_back();
      continue;
    }
    app.lingering.push_back(*socket);  // until what it has in flight is delivered
    if ((socket->news & news::released) != 0) {
      release(*socket);
    } else if (!socket->closed || app.detach_reset) {
      close_socket(*socket, app.detach_reset);
    }
  }
}

bool StackCore::released(AppId app) const noexcept {
  const AppState& state = apps_[app];
  return !state.attached() || (state.detaching && state.socket_count == 0);
}

Stack::AppUsage StackCore::usage(AppId app) const noexcept {
  const AppState& state = apps_[app];
  if (!state.attached()) return {};
  return {state.pool.used_units(), state.socket_count, state.orphan_count};
}

}  // namespace postern
