// What must always hold between turns. For tests and fuzzers; never called on a worker.
#include <cstdio>
#include <cstdlib>

#include "stack/core.h"

namespace postern {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "stack invariant broken: %s\n", what);
  std::abort();
}

}  // namespace

#define REQUIRE(condition) require(condition, #condition)

void StackCore::check_invariants() const {
  uint32_t in_table = 0;
  uint32_t handshakes = 0;
  for (uint32_t i = 0; i < tcp_.high_water(); ++i) {
    const TcpSocket* const socket = tcp_.at(i);
    if (socket == nullptr || socket->dead) continue;
    check_connection(*socket);
    in_table += socket->in_flow_table ? 1 : 0;
    handshakes += socket->counted_backlog ? 1 : 0;
  }
  REQUIRE(flows_.size() == in_table);
  REQUIRE(handshakes_ == handshakes);
  REQUIRE(batch_size_ == 0 && run_.count == 1);
  uint32_t datagrams = 0;
  for (uint32_t i = 0; i < udp_.high_water(); ++i) {
    const UdpSocket* const socket = udp_.at(i);
    if (socket != nullptr) datagrams += socket->send_count;
  }
  REQUIRE(udp_sends_.size() == datagrams);
  // What no connection holds has been given back.
  if (tcp_.size() == 0) REQUIRE(ranges_.available() == ranges_.capacity() && extents_.used() == 0);
  for (AppId app = 0; app < config_.max_apps; ++app) check_app(apps_[app]);
}

void StackCore::check_connection(const TcpSocket& socket) const {
  const TcpConnection& tcp = socket.tcp;
  TcpContext ctx = ctx_;
  ctx.set_now(now_);
  tcp.check_invariants(ctx);
  REQUIRE(!socket.in_batch);
  REQUIRE(!socket.in_flow_table || flows_.find(socket.key, key_of()) == tcp_.index_of(&socket));
  if (socket.network_done) {
    REQUIRE(!socket.in_flow_table && !socket.timer.is_armed());
    return;
  }
  // Nothing may wait for ever: a deadline is timed, and what is to be sent is listed.
  REQUIRE(tcp.next_deadline() == kNever || socket.timer.deadline() <= tcp.next_deadline());
  REQUIRE(!tcp.wants_output() || static_cast<const ListNode<ReadyTag>&>(socket).is_linked());
  REQUIRE(socket.rx.tail() - socket.rx.head() <= tcp.rx_tail() - socket.rx.head());
}

void StackCore::check_app(const AppState& app) const {
  if (!app.attached()) return;
  REQUIRE(app.orphan_count <= app.socket_count);
  if (app.socket_count == 0) REQUIRE(app.pool.used_units() == 0);
}

}  // namespace postern
