#include "stack/stack.h"

#include "stack/core.h"

namespace postern {

Stack::Stack(const StackConfig& config) : core_(std::make_unique<StackCore>(config)) {}
Stack::~Stack() = default;

void Stack::receive(std::span<const RxPacket> burst, Time now) noexcept {
  core_->receive(burst, now);
}
void Stack::advance(Time now) noexcept { core_->advance(now); }
size_t Stack::egress(Time now, std::span<TxFrame> frames) noexcept {
  return core_->egress(now, frames);
}
bool Stack::wants_egress() const noexcept { return core_->wants_egress(); }
uint16_t Stack::loop() const noexcept { return core_->loop(); }
Time Stack::next_deadline() const noexcept { return core_->next_deadline(); }

size_t Stack::book_size(const AppMemory& memory) noexcept { return AppState::book_size(memory); }
void Stack::attach(AppId app, const AppMemory& memory) noexcept { core_->attach(app, memory); }
void Stack::detach(AppId app, Time now, bool reset) noexcept { core_->detach(app, now, reset); }
bool Stack::released(AppId app) const noexcept { return core_->released(app); }
Stack::AppUsage Stack::usage(AppId app) const noexcept { return core_->usage(app); }

int Stack::open_tcp(SocketRef socket, Time now) noexcept { return core_->open_tcp(socket, now); }
int Stack::connect(SocketRef socket, const Endpoint& local, const Endpoint& remote, Time now,
                   uint16_t zone) noexcept {
  return core_->connect(socket, local, remote, now, zone);
}
int Stack::send(SocketRef socket, uint64_t offset, uint32_t length, bool more, bool want_tx,
                Time now, const uint32_t* rx_head) noexcept {
  return core_->send(socket, offset, length, more, want_tx, now, rx_head);
}
int Stack::mark_urgent(SocketRef socket, Time now) noexcept {
  return core_->mark_urgent(socket, now);
}
int Stack::send_datagram(SocketRef socket, uint64_t record_bytes, uint64_t offset, uint32_t length,
                         const IpAddress& local, const Endpoint& remote, uint8_t tos, uint8_t ttl,
                         Time now, bool want_tx, uint16_t zone, const uint32_t* rx_head) noexcept {
  return core_->send_datagram(socket, record_bytes, offset, length, local, remote, tos, ttl, now,
                              want_tx, zone, rx_head);
}
int Stack::consumed(SocketRef socket, uint32_t rx_head, Time now) noexcept {
  return core_->consumed(socket, rx_head, now);
}
int Stack::shutdown(SocketRef socket, bool read, bool write, Time now) noexcept {
  return core_->shutdown(socket, read, write, now);
}
int Stack::close(SocketRef socket, bool abort, uint32_t rx_head, Time now) noexcept {
  return core_->close(socket, abort, rx_head, now);
}
int Stack::set_option(SocketRef socket, uint16_t shm_option, uint32_t value, Time now) noexcept {
  return core_->set_option(socket, shm_option, value, now);
}
int Stack::accepted(SocketRef listener, uint32_t count, Time now) noexcept {
  return core_->accepted(listener, count, now);
}
int Stack::bind_udp(SocketRef socket, const Endpoint& local, bool v6_only) noexcept {
  return core_->bind_udp(socket, local, v6_only);
}
int Stack::listen(SocketRef socket, const Endpoint& local, uint32_t backlog,
                  bool v6_only) noexcept {
  return core_->listen(socket, local, backlog, v6_only);
}

int Stack::change_group(SocketRef socket, GroupTable::Change change, const IpAddress& group,
                        uint16_t interface, const IpAddress& source, Time now) noexcept {
  return core_->change_group(socket, change, group, interface, source, now);
}
const GroupTable& Stack::groups() const noexcept { return core_->groups(); }

void Stack::set_routes(const RouteTable* routes) noexcept { core_->set_routes(routes); }

bool Stack::take_error(SocketError* error) noexcept { return core_->take_error(error); }
bool Stack::wants_publish() const noexcept { return core_->wants_publish(); }
void Stack::publish_to(size_t budget, bool (*take)(void* to, const AppEvent& event),
                       void* to) noexcept {
  core_->publish(budget, take, to);
}

Counters& Stack::counters() noexcept { return core_->counters; }
size_t Stack::list_sockets(uint64_t* cursor, std::span<SocketInfo> out) const noexcept {
  return core_->list_sockets(cursor, out);
}
size_t Stack::list_neighbors(uint64_t* cursor, std::span<NeighborInfo> out,
                             Time now) const noexcept {
  return core_->list_neighbors(cursor, out, now);
}
size_t Stack::list_addresses(std::span<AddressInfo> out) const noexcept {
  return core_->list_addresses(out);
}
size_t Stack::list_learned_routes(std::span<LearnedRoute> out, Time now) const noexcept {
  return core_->list_learned_routes(out, now);
}
bool Stack::learned_route(const IpAddress& destination, LearnedRoute* out) const noexcept {
  return core_->learned_route(destination, out);
}
bool Stack::socket_info(SocketRef socket, SocketInfo* out) const noexcept {
  return core_->socket_info(socket, out);
}
bool Stack::tcp_info(SocketRef socket, Time now, TcpInfo* out) const noexcept {
  return core_->tcp_info(socket, now, out);
}
void Stack::check_invariants() const { core_->check_invariants(); }

}  // namespace postern
