// One worker's protocol stack: packets and application operations in, packets and application
// events out. Pure: time, randomness and memory are arguments. Single-threaded: everything is
// called by the owner.
//
// A turn of the worker:
//
//   stack.receive(burst, now)        parse -> find -> TCP | UDP | ICMP | ARP; payload is copied to
//                                    the application's receive chain
//   stack.<operation>(...)           what applications asked for, already validated
//   stack.advance(now)               timers that are due
//   stack.egress(now, frames)        fills frames while there is something to send
//   stack.publish(sink)              one event per touched socket
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "base/address.h"
#include "base/counters.h"
#include "base/time.h"
#include "ip/exception_policy.h"
#include "ip/groups.h"
#include "ip/route_table.h"
#include "tcp/types.h"
#include "wire/packet.h"

namespace postern {

inline constexpr uint32_t kNoSlot = UINT32_MAX;

using AppId = uint16_t;  // index of an attached application on this worker

// A socket as the application names it.
struct SocketRef {
  AppId app = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
};

// Memory of one application on this worker. Owned by the data plane, outlives detach() until
// released() says so.
struct AppMemory {
  std::byte* rx_pool = nullptr;  // chunk units (base/chunk.h), faulted in; unit 0 unused
  uint32_t rx_units = 0;
  const std::byte* tx_pool = nullptr;  // what extents point into; untrusted content
  uint64_t tx_size = 0;
  uint32_t slots = 0;         // size of the slot table
  uint32_t client_slots = 0;  // slots below are opened by the application
  // Private memory for the stack's own book-keeping, Stack::book_size() bytes, zeroed, aligned to
  // 8, owned by the caller as long as the rest. nullptr: attach() takes it from the heap, which
  // costs the worker a pause.
  void* book = nullptr;
};

struct InterfaceConfig {
  MacAddress mac;
  uint16_t mtu = 1500;
  std::vector<Prefix> addresses;  // with one of IPv6, a link-local one is made unless given
  TxOffloads offloads;
  // IEEE 802.1Q: with `vlan`, this is what carries that tag on the wire of interface `port`, which
  // has none and whose frames these are to the data plane.
  uint16_t vlan = 0;
  uint16_t port = 0;
  // Routers are listened to (RFC 4861 6.3); with it a link-local address is made too.
  bool accept_ra = false;
  // Secret, of this interface: RFC 7217. Zero: identifiers are made from the MAC.
  std::array<uint64_t, 2> identifier_key{};
};

struct RouteConfig {
  Prefix destination;
  IpAddress gateway;  // any: on link
  uint16_t interface = 0;
  uint32_t metric = 0;
  RouteKind kind = RouteKind::unicast;
};

struct NeighborConfig {
  Duration reachable = 30s;
  Duration retry = 1s;
  uint8_t probes = 3;
  uint32_t entries = 4096;
  uint8_t queue = 3;             // packets held per unresolved neighbor
  uint8_t arp_probes = 0;        // RFC 5227 PROBE_NUM; 0: IPv4 addresses are ours at once
  uint8_t duplicate_probes = 1;  // RFC 4862 5.1; 0: IPv6 addresses are ours at once
  Duration duplicate_delay = 1s;
  bool redirects = true;  // IPv4's are heeded (RFC 1122 3.2.2.2); IPv6's with accept_ra
  struct Permanent {      // never asked for, never forgotten
    IpAddress address;
    uint16_t interface = 0;
    MacAddress mac;
  };
  std::vector<Permanent> permanent;
};

struct FragmentConfig {
  uint32_t memory = 4 << 20;              // bytes of packets in the making
  uint32_t memory_of_source = 512 << 10;  // of these, for one source
};

class ForeignFlows;  // flow/foreign_flows.h

// What no socket wants and another stack on the same addresses, the kernel's, may have:
// stack/exception.cc. What is referred to outlives the stack.
struct ExceptionConfig {
  struct Interface {
    const ExceptionPolicy* policy = nullptr;  // null: nothing passes here
    uint32_t rate = 0;                        // packets a second; for answers as many once more
  };
  std::vector<Interface> interfaces;            // by index; may be shorter than the interfaces
  const ForeignFlows* conversations = nullptr;  // what the kernel has begun; null: no exceptions
  // Takes a copy of the packet, whose interface is that of its VLAN tag, if it has one; false: no
  // room.
  bool (*pass)(void* opaque, const RxPacket& packet) noexcept = nullptr;
  void* opaque = nullptr;
};

struct StackConfig {
  std::vector<InterfaceConfig> interfaces;
  std::vector<RouteConfig> routes;
  NeighborConfig neighbors;
  FragmentConfig fragments;
  ExceptionConfig exception;
  TcpConfig tcp;
  uint32_t max_connections = 65536;
  uint32_t max_udp_sockets = 4096;
  uint32_t max_listeners = 1024;
  uint16_t max_apps = 256;
  uint16_t ephemeral_first = 32768;
  uint16_t ephemeral_last = 60999;
  uint16_t icmp_rate = 1000;  // answers per second
  // Another worker answers, asks and announces for the host if not: ARP and NDP about ourselves.
  bool speaks_for_host = true;
  // Secret material: ISN (RFC 6528), ports (RFC 6056), hash seeds. From the caller's CSPRNG.
  std::array<uint64_t, 4> secret{};
  // A worker among several picks outgoing ports whose replies come back to itself: returns true
  // for a tuple that this worker owns. Null: every tuple. Called on connect only.
  bool (*owns_tuple)(void* opaque, const Endpoint& local, const Endpoint& remote) = nullptr;
  // Fragments meet by their addresses alone; what they make may be another worker's flow. Takes a
  // copy of the whole packet, as its port would have received it, to that worker; false: it cannot.
  // Null: nobody can.
  bool (*give_to_owner)(void* opaque, const RxPacket& whole) = nullptr;
  void* opaque = nullptr;
};

// An event for an application; the data plane turns it into shm_event.
struct AppEvent {
  enum class Type : uint8_t { update, accept, released };
  Type type = Type::update;
  bool new_chain = false;
  bool eof = false;
  bool connected = false;
  bool urgent = false;  // ring the doorbell if armed; otherwise it may wait for the next one
  bool plain = false;   // an update of rx_tail, tx_acked and chain, and nothing else
  int error = 0;        // errno value
  bool queued = false;  // UDP: take_error() has given errors of this socket
  int soft_error = 0;   // TCP: errno value of an error that does not end the connection
  SocketRef socket;
  uint32_t rx_tail = 0;
  uint32_t tx_acked = 0;
  bool has_mark = false;  // there is urgent data of TCP, up to stream position `mark`
  uint32_t mark = 0;
  uint32_t chain = 0;           // first unit of the new chain
  uint32_t new_slot = 0;        // accept
  uint32_t new_generation = 0;  // accept
};

// What the network, or the stack itself, says of a datagram that was sent: ip(7), IP_RECVERR.
struct SocketError {
  static constexpr uint8_t kLocal = 1, kIcmp = 2, kIcmp6 = 3;  // SO_EE_ORIGIN_*
  static constexpr size_t kPayload = 68;
  SocketRef socket;
  uint16_t error = 0;  // errno value
  uint8_t origin = kLocal;
  uint8_t type = 0;  // of the ICMP message
  uint8_t code = 0;
  uint8_t ttl = 0;         // as the message arrived
  uint16_t interface = 0;  // that it came by
  uint16_t length = 0;     // of the payload
  uint32_t info = 0;       // MTU, with EMSGSIZE; pointer of a parameter problem
  IpAddress offender;      // any: we ourselves
  Endpoint destination;    // of the datagram
  std::array<std::byte, kPayload> payload;
};

// What shm_socket shows of a socket.
struct SocketInfo {
  SocketRef socket;
  uint8_t protocol = 0;
  bool listening = false;
  TcpState state = TcpState::closed;
  Endpoint local;
  Endpoint remote;
  uint16_t mss = 0;
  uint32_t receive_queue = 0;  // bytes the application has not consumed
  uint32_t send_queue = 0;     // bytes not acknowledged
  uint32_t backlog = 0;        // listener: limit
  uint32_t orphan = 0;         // 1: the application has closed it or is gone
};

struct NeighborInfo {
  IpAddress address;
  MacAddress mac;
  uint16_t interface = 0;
  const char* state = "";  // "reachable", "stale", "incomplete", "failed", "permanent"
  Duration age{};
};

// An address as it becomes ours: IPv6, and IPv4 where it is asked for.
struct AddressInfo {
  Prefix address;
  uint16_t interface = 0;
  const char* state = "";  // "tentative", "preferred", "deprecated", "duplicate"
};

// What routers have said: a default router, or a prefix on the link (gateway any).
struct LearnedRoute {
  Prefix destination;
  IpAddress gateway;
  uint16_t interface = 0;
  bool silent = false;  // the router does not answer
  Duration left{};      // Duration::max(): for ever
};

struct Socket;
class StackCore;

class Stack {
 public:
  explicit Stack(const StackConfig& config);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // ---- packets ----
  void receive(std::span<const RxPacket> burst, Time now) noexcept;
  void advance(Time now) noexcept;
  // Fills frames from the front; returns how many. Fewer than asked for: nothing left to send.
  // Frames of interface loop() are for ourselves: the caller receives them as from there, with
  // checksums that are good.
  [[nodiscard]] size_t egress(Time now, std::span<TxFrame> frames) noexcept;
  [[nodiscard]] bool wants_egress() const noexcept;
  [[nodiscard]] uint16_t loop() const noexcept;  // index: one more than the last of the configured
  // Earliest time at which advance() has work; kNever if none.
  [[nodiscard]] Time next_deadline() const noexcept;

  // ---- applications ----
  [[nodiscard]] static size_t book_size(const AppMemory& memory) noexcept;
  // app < max_apps, not attached or released.
  void attach(AppId app, const AppMemory& memory) noexcept;
  // The application is gone: closes (or resets, unread data) all its sockets. Its memory is still
  // needed until released(app).
  void detach(AppId app, Time now, bool reset) noexcept;
  [[nodiscard]] bool released(AppId app) const noexcept;
  struct AppUsage {
    uint32_t rx_units_used = 0;
    uint32_t sockets = 0;
    uint32_t orphans = 0;
  };
  [[nodiscard]] AppUsage usage(AppId app) const noexcept;

  // ---- operations. 0 or an errno value; a stale handle is ESTALE. A returned violation (EPROTO)
  // means the application broke the contract and is to be evicted. A connect that fails
  // (ENETUNREACH, EADDRNOTAVAIL, EISCONN ...) returns 0 and is told by an event with `error`, like
  // one that the network refuses; the socket then only waits for close(). ----

  // `zone`: the interface that a link-local remote address is on, plus 1 (RFC 4007); 0: not said,
  // which is enough where there is one interface.
  // ENOBUFS: max_connections reached; the slot stays closed, so that close() gives ESTALE.
  int open_tcp(SocketRef socket, Time now) noexcept;
  int connect(SocketRef socket, const Endpoint& local, const Endpoint& remote, Time now,
              uint16_t zone = 0) noexcept;
  // `rx_head` of both sends: consumed() as well, before; nullptr: not.
  int send(SocketRef socket, uint64_t offset, uint32_t length, bool more, bool want_tx, Time now,
           const uint32_t* rx_head = nullptr) noexcept;
  // The last byte that was sent is urgent (MSG_OOB, RFC 6093).
  int mark_urgent(SocketRef socket, Time now) noexcept;
  // The record's header was copied and validated by the caller; offset names the payload. A
  // datagram that cannot be sent is lost (counted), its record_bytes are given back all the same.
  int send_datagram(SocketRef socket, uint64_t record_bytes, uint64_t offset, uint32_t length,
                    const IpAddress& local, const Endpoint& remote, uint8_t tos, uint8_t ttl,
                    Time now, bool want_tx = false, uint16_t zone = 0,
                    const uint32_t* rx_head = nullptr) noexcept;
  // A position before the last one is ignored; one beyond what was delivered is a violation.
  int consumed(SocketRef socket, uint32_t rx_head, Time now) noexcept;
  int shutdown(SocketRef socket, bool read, bool write, Time now) noexcept;
  int close(SocketRef socket, bool abort, uint32_t rx_head, Time now) noexcept;
  // EINVAL: value out of range; ENOPROTOOPT: not an option of this socket.
  int set_option(SocketRef socket, uint16_t shm_option, uint32_t value, Time now) noexcept;
  // `count` connections of the listener left its accept queue.
  int accepted(SocketRef listener, uint32_t count, Time now) noexcept;

  // From the control thread's mailbox: addresses were checked and reserved there, and sockets that
  // come with the same one may share it (SO_REUSEPORT). Both open the slot. ENOBUFS: table full.
  int bind_udp(SocketRef socket, const Endpoint& local, bool v6_only) noexcept;
  int listen(SocketRef socket, const Endpoint& local, uint32_t backlog, bool v6_only) noexcept;

  // From there as well: a datagram socket joins or leaves a group, or changes its filter, with
  // errors as Linux gives them. What closes leaves by itself.
  int change_group(SocketRef socket, GroupTable::Change change, const IpAddress& group,
                   uint16_t interface, const IpAddress& source, Time now) noexcept;

  // Instead of the routes of the configuration; nullptr: those again. Connections look up their way
  // anew. The table is in use until another one is set.
  void set_routes(const RouteTable* routes) noexcept;

  // ---- events ----
  // Calls sink(const AppEvent&) -> bool for each touched socket; false (ring full): the event stays
  // and is offered again next time. At most `budget` sockets.
  template <class Sink>
  void publish(size_t budget, Sink&& sink) {
    using Taker = std::remove_reference_t<Sink>;
    publish_to(
        budget, [](void* to, const AppEvent& event) { return (*static_cast<Taker*>(to))(event); },
        std::addressof(sink));
  }
  [[nodiscard]] bool wants_publish() const noexcept;
  // Errors for the queues of sockets that want them (SocketOption::receive_errors). To be taken
  // before publish(), whose events tell of them; kept for one turn, up to a number: what is more is
  // lost, as the kernel's are where the receive buffer is full.
  [[nodiscard]] bool take_error(SocketError* error) noexcept;

  // ---- looking in. Not for every turn. ----
  [[nodiscard]] Counters& counters() noexcept;
  // At most out.size() sockets, starting at *cursor (0 first); returns how many, advances *cursor,
  // sets it to UINT64_MAX at the end.
  size_t list_sockets(uint64_t* cursor, std::span<SocketInfo> out) const noexcept;
  size_t list_neighbors(uint64_t* cursor, std::span<NeighborInfo> out, Time now) const noexcept;
  size_t list_addresses(std::span<AddressInfo> out) const noexcept;
  [[nodiscard]] const GroupTable& groups() const noexcept;
  size_t list_learned_routes(std::span<LearnedRoute> out, Time now) const noexcept;
  // What routers have said of the way to an address, if that is what counts.
  bool learned_route(const IpAddress& destination, LearnedRoute* out) const noexcept;
  bool socket_info(SocketRef socket, SocketInfo* out) const noexcept;
  // The connection in detail; false if it is not a TCP connection.
  bool tcp_info(SocketRef socket, Time now, TcpInfo* out) const noexcept;
  // Between turns; aborts where one does not hold. For tests.
  void check_invariants() const;

 private:
  void publish_to(size_t budget, bool (*take)(void* to, const AppEvent& event), void* to) noexcept;

  std::unique_ptr<StackCore> core_;
};

}  // namespace postern
