// What applications are told: one event per touched socket and walk, news gathered since the last.
#include <algorithm>

#include "stack/core.h"

namespace postern {

void StackCore::tell(Socket& socket, uint16_t bits) noexcept {
  // A socket that its application has closed has one thing left to say.
  if (!socket.owned || (socket.closed && (bits & news::released) == 0)) return;
  socket.news |= bits;
  auto& node = static_cast<ListNode<TouchedTag>&>(socket);
  if (!node.is_linked()) touched_.push_back(socket);
}

void StackCore::tell_error(Socket& socket, int error) noexcept {
  socket.error = static_cast<uint16_t>(error);
  tell(socket, news::error | news::urgent);
}

// Acknowledged storage is news when somebody can do something with it: when all of it is free, or
// a good deal.
void StackCore::tell_acked(Socket& socket, uint32_t acked, uint32_t outstanding) noexcept {
  const uint32_t fresh = acked - socket.told_tx_acked;
  if (fresh == 0 || (outstanding != 0 && fresh < kAckNews)) return;
  tell(socket, socket.want_tx ? news::update | news::urgent : news::update);
}

uint32_t StackCore::tx_acked_of(const Socket& socket) noexcept {
  switch (socket.kind) {
    case SocketKind::tcp:
      return static_cast<const TcpSocket&>(socket).tx.begin();
    case SocketKind::udp:
      return static_cast<const UdpSocket&>(socket).tx_acked;
    default:
      return 0;
  }
}

bool StackCore::wants_publish() const noexcept { return !touched_.empty(); }

// False: there is none.
inline bool StackCore::next_event(Socket& socket, AppEvent* event) noexcept {
  if (socket.news == 0) return false;
  *event = {};
  event->socket = {socket.app, socket.slot, socket.generation};
  event->urgent = (socket.news & news::urgent) != 0;
  if ((socket.news & ~(news::update | news::urgent)) != 0) {
    if ((socket.news & news::accept) != 0) return accept_event(socket, event);
    if (!rare_event(socket, event)) return false;
    if (event->type == AppEvent::Type::released) return true;
  } else if (socket.news == news::urgent) {
    return false;
  } else {
    event->plain = true;
  }
  event->rx_tail = socket.rx.tail();
  event->tx_acked = tx_acked_of(socket);
  event->chain = socket.rx.new_chain();
  event->new_chain = event->chain != 0;
  return true;
}

// What else there is to tell; false: nothing.
bool StackCore::rare_event(const Socket& socket, AppEvent* event) const noexcept {
  constexpr uint16_t kUpdate =
      news::update | news::eof | news::connected | news::error | news::mark | news::queued;
  if ((socket.news & kUpdate) == 0) {
    event->type = AppEvent::Type::released;
    return (socket.news & news::released) != 0;
  }
  event->eof = (socket.news & news::eof) != 0;
  event->connected = (socket.news & news::connected) != 0;
  event->error = (socket.news & news::error) != 0 ? socket.error : 0;
  if ((socket.news & news::queued) != 0) {
    event->queued = socket.kind == SocketKind::udp;
    event->soft_error = event->queued ? 0 : socket.error;
  }
  if ((socket.news & news::mark) != 0) {
    event->has_mark = static_cast<const TcpSocket&>(socket).tcp.urgent_mark(&event->mark);
  }
  return true;
}

bool StackCore::accept_event(const Socket& socket, AppEvent* event) const noexcept {
  const Listener* listener = listeners_.get(static_cast<const TcpSocket&>(socket).listener);
  event->type = AppEvent::Type::accept;
  event->socket = {listener->app, listener->slot, listener->generation};
  event->new_slot = socket.slot;
  event->new_generation = socket.generation;
  return true;
}

inline void StackCore::event_taken(Socket& socket, const AppEvent& event) noexcept {
  switch (event.type) {
    case AppEvent::Type::accept:
      socket.news &= static_cast<uint16_t>(~news::accept);
      leave_listener(static_cast<TcpSocket&>(socket));
      if (socket.news == news::urgent) socket.news = 0;
      return;
    case AppEvent::Type::released:
      disown(socket);
      destroy_if_done(socket);
      return;
    case AppEvent::Type::update:
      socket.told_tx_acked = event.tx_acked;
      socket.told_rx_tail = event.rx_tail;
      if (event.new_chain) socket.rx.mark_announced();
      socket.news &= news::released;
      return;
  }
}

// Each socket that is on the list now gets a turn; what the sink refuses stays, at the end.
void StackCore::publish(size_t budget, bool (*take)(void* to, const AppEvent& event),
                        void* to) noexcept {
  AppEvent event;
  const Socket* const last = touched_.back();
  while (budget-- > 0) {
    Socket* const socket = touched_.front();
    if (socket == nullptr) return;
    bool taken = true;
    while (taken && next_event(*socket, &event)) {
      taken = take(to, event);
      if (taken) event_taken(*socket, event);
    }
    static_cast<ListNode<TouchedTag>&>(*socket).unlink();
    if (!taken) touched_.push_back(*socket);
    if (socket == last) return;
  }
}

}  // namespace postern
