// The inside of Stack, cut by task:
//
//   core.cc        construction, timers, what all parts share
//   router_input.cc   router advertisements and redirects
//   input.cc       a burst: parse, find, hand to the protocol
//   arp_input.cc nd_input.cc icmp_input.cc udp_input.cc tcp_input.cc tcp_open.cc syn_cookies.cc
//                  the protocols
//   exception.cc   what no socket wants and the kernel may have
//   fragment_input.cc   fragments received, until they are a packet
//   group.cc       what is for several: groups and broadcasts, received and sent
//   output.cc      egress: control frames, then sockets in turn; tcp_output.cc udp_output.cc
//   operations.cc  what applications ask for
//   sockets.cc     life of sockets and applications
//   events.cc      what applications are told
//   error_queue.cc what is told of single datagrams: IP_RECVERR
//   inspect.cc     looking in
//   invariants.cc  what must always hold, for tests
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/intrusive_list.h"
#include "base/slab.h"
#include "base/timer_wheel.h"
#include "flow/flow_table.h"
#include "flow/foreign_flows.h"
#include "flow/listener_table.h"
#include "ip/arp.h"
#include "ip/groups.h"
#include "ip/interface.h"
#include "ip/nd.h"
#include "ip/neighbor_table.h"
#include "ip/path_mtu.h"
#include "ip/rate_limit.h"
#include "ip/reassembly.h"
#include "ip/route_table.h"
#include "ip/router_discovery.h"
#include "stack/app_state.h"
#include "stack/control_queue.h"
#include "stack/socket.h"
#include "stack/socket_option.h"
#include "stack/stack.h"
#include "tcp/ranges.h"
#include "tcp/syn_cookie.h"
#include "udp/udp_table.h"
#include "wire/build.h"
#include "wire/fragment.h"
#include "wire/parse.h"

namespace postern {

// The flow that a received packet with ports belongs to.
inline FlowKey key_of_packet(const ParsedPacket& p) noexcept {
  return {p.source, p.source_port, p.destination, p.destination_port, p.protocol};
}

class StackCore {
 public:
  explicit StackCore(const StackConfig& config);

  // ---- core.cc ----
  void advance(Time now) noexcept;
  void set_routes(const RouteTable* routes) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept;

  // ---- input.cc ----
  void receive(std::span<const RxPacket> burst, Time now) noexcept;

  // ---- output.cc ----
  [[nodiscard]] size_t egress(Time now, std::span<TxFrame> frames) noexcept;
  [[nodiscard]] uint16_t loop() const noexcept { return interfaces_.loop(); }
  [[nodiscard]] bool wants_egress() const noexcept;

  // ---- sockets.cc ----
  void attach(AppId app, const AppMemory& memory) noexcept;
  void detach(AppId app, Time now, bool reset) noexcept;
  [[nodiscard]] bool released(AppId app) const noexcept;
  [[nodiscard]] Stack::AppUsage usage(AppId app) const noexcept;

  // ---- operations.cc ----
  int open_tcp(SocketRef ref, Time now) noexcept;
  int connect(SocketRef ref, const Endpoint& local, const Endpoint& remote, Time now,
              uint16_t zone) noexcept;
  int send(SocketRef ref, uint64_t offset, uint32_t length, bool more, bool want_tx, Time now,
           const uint32_t* rx_head) noexcept;
  int mark_urgent(SocketRef ref, Time now) noexcept;
  int send_datagram(SocketRef ref, uint64_t record_bytes, uint64_t offset, uint32_t length,
                    const IpAddress& local, const Endpoint& remote, uint8_t tos, uint8_t ttl,
                    Time now, bool want_tx, uint16_t zone, const uint32_t* rx_head) noexcept;
  int consumed(SocketRef ref, uint32_t rx_head, Time now) noexcept;
  int shutdown(SocketRef ref, bool read, bool write, Time now) noexcept;
  int close(SocketRef ref, bool abort, uint32_t rx_head, Time now) noexcept;
  int set_option(SocketRef ref, uint16_t option, uint32_t value, Time now) noexcept;
  int accepted(SocketRef ref, uint32_t count, Time now) noexcept;
  int bind_udp(SocketRef ref, const Endpoint& local, bool v6_only) noexcept;
  int listen(SocketRef ref, const Endpoint& local, uint32_t backlog, bool v6_only) noexcept;
  int change_group(SocketRef ref, GroupTable::Change change, const IpAddress& group,
                   uint16_t interface, const IpAddress& source, Time now) noexcept;

  // ---- events.cc ----
  void publish(size_t budget, bool (*take)(void* to, const AppEvent& event), void* to) noexcept;
  [[nodiscard]] bool wants_publish() const noexcept;

  // ---- error_queue.cc ----
  [[nodiscard]] bool take_error(SocketError* error) noexcept;

  // ---- inspect.cc ----
  size_t list_sockets(uint64_t* cursor, std::span<SocketInfo> out) const noexcept;
  size_t list_neighbors(uint64_t* cursor, std::span<NeighborInfo> out, Time now) const noexcept;
  size_t list_addresses(std::span<AddressInfo> out) const noexcept;
  [[nodiscard]] const GroupTable& groups() const noexcept { return groups_; }
  size_t list_learned_routes(std::span<LearnedRoute> out, Time now) const noexcept;
  bool learned_route(const IpAddress& destination, LearnedRoute* out) const noexcept;
  bool socket_info(SocketRef ref, SocketInfo* out) const noexcept;
  bool tcp_info(SocketRef ref, Time now, TcpInfo* out) const noexcept;

  // ---- invariants.cc ----
  void check_invariants() const;

  Counters counters;

 private:
  static constexpr size_t kBurst = 32;  // packets looked up together
  static constexpr uint8_t kNoPosition = UINT8_MAX;
  static constexpr uint32_t kLongestRun = 65535;  // bytes of segments that are handled as one
  static constexpr uint32_t kTurn = 16;           // frames of one socket before the next one's turn
  static constexpr uint32_t kAckNews = 32 << 10;  // acknowledged bytes worth an event of their own
  static constexpr uint32_t kUdpSendLimit = 1024;        // datagrams queued per socket
  static constexpr uint32_t kUdpReceiveLimit = 1 << 20;  // bytes, without SO_RCVBUF
  // Payload of a segment that the device cuts up: fits into a turn's frames of 2 KiB.
  static constexpr uint32_t kTsoBytes = (kTurn - 1) * 1920;
  // Without: what the engine gives at once, to be cut up here (cut_output).
  static constexpr uint32_t kCutBytes = 16 * 1024;
  static constexpr int kDetachTurn = 256;  // sockets closed per turn of a dying application
  static constexpr int kRecycleTurn = 64;  // TIME-WAITs cut short per turn
  static constexpr MacAddress kBroadcastMac{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

  static constexpr uint16_t kNoInterface = UINT16_MAX;
  static constexpr IpAddress kOurselves{};  // the neighbor on InterfaceTable::loop()
  struct NextHop {
    uint16_t interface = 0;
    IpAddress address;
  };
  // An interface and a neighbor for packets to one destination.
  struct Path {
    uint16_t interface = 0;
    NeighborHandle neighbor;
    NeighborTable::Resolution resolution = NeighborTable::Resolution::full;
    bool many = false;  // to a group or a broadcast address: there is no neighbor
  };

  // ---- core.cc ----
  void set_now(Time now) noexcept;
  // Not for secrets: a linear congruence, its high half, seeded by the secret.
  [[nodiscard]] uint32_t random32() noexcept {
    random_ = random_ * 0x5851f42d4c957f2dU + 0x14057b7ef767814fU;
    return static_cast<uint32_t>(random_ >> 32);
  }
  // 0 or the errno of having no way; to ourselves it is InterfaceTable::loop(). `link`: the
  // interface that a link-local destination is on, if it is known. `flow` chooses among equal
  // routes; nullptr: the destination does.
  [[nodiscard]] int next_hop(const IpAddress& destination, uint16_t link, NextHop* out,
                             const FlowKey* flow = nullptr) const noexcept;
  // The interface of a zone; kNoInterface: the routes decide.
  [[nodiscard]] uint16_t link_of(uint16_t zone) const noexcept {
    if (interfaces_.size() == 1) return 0;
    return zone == 0 || zone > interfaces_.size() ? kNoInterface : static_cast<uint16_t>(zone - 1);
  }
  [[nodiscard]] int find_path(const IpAddress& destination, Path* path,
                              uint16_t link = kNoInterface, const FlowKey* flow = nullptr) noexcept;
  [[nodiscard]] static Drop drop_of_route(int error) noexcept;
  // Our address towards a destination behind a next hop; nullptr: none of its family. May point to
  // `destination`.
  [[nodiscard]] const IpAddress* source_for(const IpAddress& destination,
                                            const NextHop& hop) const noexcept;
  // What is known of the path, the link's own MTU if nothing is.
  [[nodiscard]] uint32_t mtu_towards(const IpAddress& destination,
                                     uint16_t interface) const noexcept {
    const uint32_t known = path_mtu_.find(destination, now_);
    const uint32_t link = interfaces_[interface].mtu_of(!destination.is_v4());
    return known == 0 || known > link ? link : known;
  }
  void on_timer(Timer& timer) noexcept;
  void neighbors_settled() noexcept;

  // ---- input.cc ----
  void receive_some(const RxPacket* packets, size_t n) noexcept;
  void coalesce(const RxPacket* packets, size_t i) noexcept;
  Drop dispatch(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  // Also finds the interface of a tag.
  [[nodiscard]] Drop check_link(ParsedPacket& parsed) const noexcept;
  [[nodiscard]] bool forged(const ParsedPacket& parsed) const noexcept;

  // ---- group.cc ----
  // A group of either family, or the limited broadcast.
  [[nodiscard]] static bool is_many(const IpAddress& a) noexcept {
    return a.is_multicast() || a == IpAddress::v4(UINT32_MAX);
  }
  Drop dispatch_to_many(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  [[nodiscard]] Drop check_many(const ParsedPacket& parsed) const noexcept;
  Drop udp_to_many(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop group_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  void send_group_messages() noexcept;
  void send_group_message(const GroupTable::Output& output) noexcept;
  // The interface by which a datagram goes to a group or the limited broadcast.
  [[nodiscard]] int many_hop(const UdpSocket& socket, const UdpSend& item,
                             NextHop* out) const noexcept;
  [[nodiscard]] MacAddress many_mac(const IpAddress& destination) const noexcept;
  void loop_to_members(const UdpSocket& socket, const UdpSend& item, const IpAddress& source,
                       uint16_t interface) noexcept;

  // ---- exception.cc ----
  struct Exceptions {
    ExceptionConfig config;
    struct Limits {
      RateLimit unasked, answers;
    };
    std::vector<Limits> limits;  // by interface
  };
  [[nodiscard]] static std::unique_ptr<Exceptions> make_exceptions(const ExceptionConfig& config);
  // For a packet that is not ours: passed to the kernel if that may have it, else `otherwise`.
  Drop except(const RxPacket& packet, const ParsedPacket& parsed, Drop otherwise) noexcept {
    return exceptions_ == nullptr ? otherwise : except_packet(packet, parsed, otherwise);
  }
  Drop except_packet(const RxPacket& packet, const ParsedPacket& parsed, Drop otherwise) noexcept;
  // The same for an ICMP error, which belongs to who sent the packet that it quotes.
  Drop except_error(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  // The kernel, too, has to hear the answers of neighbors.
  void except_answer(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  [[nodiscard]] const ExceptionPolicy* policy_of(const ParsedPacket& parsed) const noexcept;
  [[nodiscard]] bool foreign(const FlowKey& flow) const noexcept {
    return exceptions_ != nullptr && exceptions_->config.conversations->contains(flow);
  }
  // A segment to a port where we listen, of a connection of the kernel's.
  [[nodiscard]] bool answers_kernel(const ParsedPacket& parsed) const noexcept {
    return exceptions_ != nullptr && policy_of(parsed) != nullptr && foreign(key_of_packet(parsed));
  }
  Drop pass(const RxPacket& packet, const ParsedPacket& parsed, bool answer) noexcept;

  // ---- fragment_input.cc ----
  Drop fragment_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop whole_input(const RxPacket& packet, const ParsedPacket& last,
                   std::span<std::byte> whole) noexcept;
  void expire_fragments() noexcept;

  // ---- arp_input.cc ----
  Drop arp_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  void send_arp(const wire::ArpPacket& arp, const MacAddress& destination,
                uint16_t interface) noexcept;

  // ---- nd_input.cc ----
  void add_addresses(const StackConfig& config);
  Drop nd_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  void send_nd(const NdResponder::Message& message) noexcept;
  void solicit(const NeighborTable::Probe& probe) noexcept;

  // ---- router_input.cc ----
  Drop router_advertisement_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop redirect_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop redirect4_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  [[nodiscard]] bool is_of_live_flow(const wire::QuotedPacket& quoted) const noexcept;
  void solicit_routers(uint16_t interface) noexcept;
  void join_address_groups(uint16_t interface) noexcept;
  // True: there is another way for what went there.
  [[nodiscard]] bool neighbor_failed(NeighborHandle handle) noexcept;
  // What routers have said of the way, if it is more than `routes` do.
  [[nodiscard]] bool learned_way(const IpAddress& destination, RouteChoice routes,
                                 RouterDiscovery::Way* out) const noexcept;
  // Of packets whose sockets do not say another one.
  [[nodiscard]] uint8_t default_ttl(uint16_t interface, bool is_v6) const noexcept {
    constexpr uint8_t kIpv4Ttl = 64;  // RFC 1700
    return is_v6 ? routers_.hop_limit(interface) : kIpv4Ttl;
  }

  // ---- icmp_input.cc ----
  Drop icmp_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop icmp_echo(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop icmp_error(const RxPacket& packet, const ParsedPacket& parsed, int error) noexcept;
  // What an ICMP error says: an errno value, and the MTU with EMSGSIZE.
  struct IcmpReport {
    int error = 0;
    uint32_t mtu = 0;
  };
  Drop icmp_error_tcp(const wire::QuotedPacket& quoted, const IcmpReport& report) noexcept;
  Drop icmp_error_udp(const RxPacket& packet, const ParsedPacket& parsed,
                      const wire::QuotedPacket& quoted, const IcmpReport& report) noexcept;
  Drop icmp_echo_in_fragments(const RxPacket& packet, const ParsedPacket& parsed,
                              const IpAddress& source, uint32_t rest) noexcept;
  void icmp_port_unreachable(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  void lower_path_mtu(const IpAddress& destination, uint32_t mtu, uint16_t interface) noexcept;
  struct IcmpError {
    IpAddress local;
    IpAddress remote;
    uint16_t interface = 0;
    uint8_t type = 0;
    uint8_t code = 0;
    uint32_t rest = 0;  // pointer of a parameter problem
  };
  // What nobody here understands, told to its sender: RFC 8200 4, RFC 4443 3.4, RFC 1122 3.2.2.1.
  void tell_problem(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  void tell_short_first_fragment(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  void tell_unknown_protocol(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  // From the IP header to the end of the packet, in what may be quoted.
  [[nodiscard]] static std::span<const std::byte> ip_packet(const RxPacket& packet,
                                                            const ParsedPacket& parsed) noexcept {
    return {packet.data + parsed.l3_offset, packet.length - parsed.l3_offset};
  }
  // About a packet of `remote`, given from its IP header.
  void send_icmp_error(const IcmpError& error, std::span<const std::byte> about) noexcept;

  // ---- udp_input.cc ----
  Drop udp_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  Drop udp_deliver(UdpSocket& socket, const RxPacket& packet, const ParsedPacket& parsed) noexcept;
  // The first of n packets goes where the last datagram went. Takes it and those behind it of which
  // this is true; how many.
  size_t udp_run(const RxPacket* packets, const ParsedPacket* parsed, size_t n) noexcept;
  [[nodiscard]] Drop check_source(const ParsedPacket& parsed) const noexcept;

  // ---- tcp_input.cc ----
  Drop tcp_input(const RxPacket& packet, const ParsedPacket& parsed, uint32_t flow) noexcept;
  Drop tcp_segment(TcpSocket& socket, const TcpSegment& segment, const std::byte* payload) noexcept;
  void join_run(TcpSegment& segment) noexcept;
  void store_run(TcpSocket& socket, const TcpInput& in) noexcept;
  // ---- listeners.cc ----
  [[nodiscard]] bool enter_listener(Listener& listener, bool v6_only) noexcept;
  void withdraw_listener(Listener& listener) noexcept;
  [[nodiscard]] uint32_t listener_of(const ParsedPacket& syn) const noexcept;

  [[gnu::noinline]] Drop tcp_unmatched(const RxPacket& packet, const ParsedPacket& parsed,
                                       const TcpSegment& segment) noexcept;
  [[gnu::noinline]] Drop tcp_reopen(TcpSocket& old, const ParsedPacket& parsed,
                                    const TcpSegment& segment) noexcept;
  [[gnu::noinline]] void events_before_data(TcpSocket& socket) noexcept;
  [[nodiscard]] uint16_t app_of_listener(const TcpSocket& socket) const noexcept;
  void tcp_reset(const ParsedPacket& parsed, const TcpSegment& segment) noexcept;
  void settle(TcpSocket& socket) noexcept;
  void settle_batch() noexcept;
  void note_time_wait(TcpSocket& socket) noexcept;
  void on_tcp_events(TcpSocket& socket, uint16_t events) noexcept;
  [[gnu::noinline]] void on_rare_events(TcpSocket& socket, uint16_t events) noexcept;
  [[gnu::noinline]] void on_connected(TcpSocket& socket) noexcept;
  void on_acked(TcpSocket& socket) noexcept;
  void on_finished(TcpSocket& socket) noexcept;
  void network_end(TcpSocket& socket) noexcept;
  // Receive memory is promised to the engine in whole: what it accepts can be stored.
  TcpContext& tcp_context(const TcpSocket& socket) noexcept {
    const uint16_t app = socket.owned ? socket.app : app_of_listener(socket);
    ctx_.receive_room =
        app == kNoApp ? 0 : apps_[app].pool.free_bytes() + socket.rx.room_behind_stored();
    return ctx_;
  }

  // For a connection of the listener that is not there yet.
  TcpContext& listener_context(const Listener& listener) noexcept {
    ctx_.receive_room = apps_[listener.app].pool.free_bytes();
    return ctx_;
  }

  // ---- tcp_open.cc ----
  Drop tcp_passive_open(Listener& listener, const ParsedPacket& parsed, const TcpSegment& syn,
                        uint32_t isn, bool isn_given) noexcept;
  // Null, with *why: no way back to the peer, or the worker has no room for it.
  [[nodiscard]] TcpSocket* create_child(Listener& listener, const ParsedPacket& parsed,
                                        const FlowKey& key, Drop* why) noexcept;
  void inherit_options(const Listener& listener, TcpConnection& tcp, TcpContext& ctx) noexcept;

  // ---- syn_cookies.cc ----
  [[nodiscard]] bool handshakes_full(const Listener& listener) const noexcept;
  Drop send_cookie(Listener& listener, const ParsedPacket& parsed, const TcpSegment& syn) noexcept;
  // An ACK for a listener: a connection if it brings a good cookie.
  Drop cookie_open(Listener& listener, const RxPacket& packet, const ParsedPacket& parsed,
                   const TcpSegment& ack) noexcept;
  [[nodiscard]] int tcp_active_open(TcpSocket& socket, const Endpoint& local,
                                    const Endpoint& remote, uint16_t zone) noexcept;
  [[nodiscard]] int choose_port(TcpSocket& socket, const Endpoint& local, const Endpoint& remote,
                                uint32_t* isn, bool* reused) noexcept;
  [[nodiscard]] bool try_tuple(TcpSocket& socket, const FlowKey& key, uint32_t* isn,
                               bool* reused) noexcept;
  void fail_connect(TcpSocket& socket, int error) noexcept;
  [[nodiscard]] uint32_t segment_burst(const TcpSocket& socket) const noexcept;
  [[nodiscard]] bool claim_tuple(TcpSocket& socket, const FlowKey& key) noexcept;
  [[nodiscard]] uint16_t path_mss(uint16_t interface, bool is_v6) const noexcept;
  void apply_path_mtu(TcpSocket& socket, TcpContext& ctx) noexcept;
  void set_initial_numbers(TcpContext& ctx, const FlowKey& key) noexcept;

  // ---- output.cc ----
  [[nodiscard]] size_t control_output(std::span<TxFrame> frames) noexcept;
  // What the neighbor of an IP packet in `frame` (complete but for its MAC) says; true: send now.
  [[nodiscard]] bool place_frame(TxFrame& frame, const Path& path) noexcept;
  // A control frame being built, nullptr if the queue is full (counted).
  [[nodiscard]] TxFrame* begin_control() noexcept;
  void finish_control(TxFrame& frame, const IpAddress& destination) noexcept;
  std::byte* begin_ip(TxFrame& frame, uint16_t interface, const MacAddress& destination,
                      const wire::IpFields& fields) noexcept;
  // The same for a part of a packet whose other fields are given; returns where its data goes.
  struct FragmentPlace {
    uint32_t offset = 0;
    uint32_t length = 0;
    bool more = false;
    uint32_t id = 0;
  };
  std::byte* begin_fragment(TxFrame& frame, uint16_t interface, wire::IpFields fields,
                            const FragmentPlace& place) noexcept;
  // Data of a fragment that fits a link of `mtu`.
  [[nodiscard]] static uint32_t fragment_room(uint32_t mtu, bool is_v6) noexcept {
    return (mtu - (is_v6 ? 40U + 8U : 20U)) & ~7U;
  }
  // Identification of a packet's fragments. RFC 7739: not to be guessed from another one's.
  [[nodiscard]] uint32_t fragment_id(bool is_v6) noexcept {
    return is_v6 ? random32() : next_ip_id();
  }
  static void copy_frame(const TxFrame& from, TxFrame& to) noexcept;
  void set_interface(TxFrame& frame, uint16_t interface) noexcept;
  void announce() noexcept;
  [[nodiscard]] Time announcement_due() const noexcept {
    return std::min({arp_.next_deadline(), nd_.next_deadline(), groups_.next_deadline(),
                     routers_.next_deadline()});
  }
  void send_probe(const NeighborTable::Probe& probe) noexcept;
  [[nodiscard]] uint16_t next_ip_id() noexcept { return ++ip_id_ != 0 ? ip_id_ : ++ip_id_; }
  [[nodiscard]] size_t socket_output(Socket& socket, std::span<TxFrame> frames) noexcept;

  // ---- tcp_output.cc ----
  [[nodiscard]] size_t tcp_output(TcpSocket& socket, std::span<TxFrame> frames) noexcept;
  [[nodiscard]] NeighborTable::Resolution tcp_resolve(TcpSocket& socket) noexcept;
  [[nodiscard]] size_t build_whole(TcpSocket& socket, const TcpSegment& segment,
                                   std::span<TxFrame> frames) noexcept;
  void build_tcp(TcpSocket& socket, const TcpSegment& segment, TxFrame& frame) noexcept;
  std::byte* build_headers(TcpSocket& socket, const TcpSegment& segment, TxFrame& frame) noexcept;
  void build_common(TcpSocket& socket, const Interface& link, const TcpSegment& segment,
                    TxFrame& frame) noexcept;
  [[nodiscard]] size_t cut_output(std::span<TxFrame> frames) noexcept;
  bool gather_payload(TcpSocket& socket, const TcpSegment& segment, TxFrame& frame) noexcept;
  uint32_t copy_payload(TcpSocket& socket, uint32_t position, uint32_t length, std::byte* out,
                        bool checksum) noexcept;
  [[gnu::noinline]] uint32_t copy_pieces(TcpSocket& socket, uint32_t position, uint32_t length,
                                         std::byte* out, bool checksum) noexcept;

  // ---- udp_output.cc ----
  [[nodiscard]] size_t udp_output(UdpSocket& socket, std::span<TxFrame> frames) noexcept;
  // Builds the next frame of a datagram; true: *frame is to be sent. *done: all of it is built.
  [[nodiscard]] bool udp_frame(UdpSocket& socket, UdpSend& item, TxFrame& frame,
                               bool* done) noexcept;
  // What datagrams of a socket have in common.
  struct UdpSender {
    const std::byte* payloads = nullptr;  // the application's transmit region
    uint16_t port = 0;
  };
  // The next datagram to `frame` if it can go the way of the last one, unfragmented.
  [[nodiscard]] bool udp_common(const UdpSocket& socket, const UdpSender& sender,
                                const UdpSend& item, TxFrame& frame) noexcept;
  void udp_sent(UdpSocket& socket) noexcept;
  [[nodiscard]] int udp_route(const UdpSocket& socket, const UdpSend& item, Path* path,
                              IpAddress* source) noexcept;
  void udp_payload(UdpSocket& socket, const UdpSend& item, uint32_t offset, uint32_t n,
                   std::byte* out, const IpAddress& source, TxFrame& frame, L4Checksum by) noexcept;

  // ---- operations.cc ----
  int set_listener_option(Listener& listener, SocketOption option, uint32_t value) noexcept;
  void udp_connect(UdpSocket& socket, const Endpoint& remote, uint16_t zone) noexcept;
  [[nodiscard]] int check_datagram(const IpAddress& from, const Endpoint& to,
                                   uint32_t length) const noexcept;
  [[nodiscard]] UdpSend* udp_queue(UdpSocket& socket) noexcept;
  void udp_lost(UdpSocket& socket, uint32_t record_bytes) noexcept;
  [[nodiscard]] int consume(Socket& socket, uint32_t rx_head) noexcept;
  [[gnu::noinline]] void discard_unread(TcpSocket& socket) noexcept;

  // ---- sockets.cc ----
  // nullptr: the handle is stale, or was never good.
  [[nodiscard]] Socket* find_socket(SocketRef ref) const noexcept {
    if (ref.app >= config_.max_apps) return nullptr;
    const AppSlot* slot = apps_[ref.app].find(ref.slot, ref.generation);
    return slot == nullptr ? nullptr : &socket_at(slot->socket);
  }
  [[nodiscard]] TcpSocket* create_tcp() noexcept;
  void destroy_unused(TcpSocket& socket) noexcept;
  template <class T>
  [[nodiscard]] T* find_kind(SocketRef ref, SocketKind kind) const noexcept {
    Socket* socket = find_socket(ref);
    return socket != nullptr && socket->kind == kind ? static_cast<T*>(socket) : nullptr;
  }
  [[nodiscard]] Socket& socket_at(uint32_t packed) const noexcept {
    const uint32_t index = AppState::index_of(packed);
    const SocketKind kind = AppState::kind_of(packed);
    if (kind == SocketKind::tcp) [[likely]]
      return tcp_[index];
    if (kind == SocketKind::udp) return udp_[index];
    return listeners_[index];
  }
  void own(Socket& socket, AppId app, uint32_t slot, uint32_t generation) noexcept;
  // Cuts the socket from its application: slot, receive chain, transmit storage, news.
  void disown(Socket& socket) noexcept;
  void mark_closed(Socket& socket) noexcept;
  void close_socket(Socket& socket, bool abort) noexcept;
  void close_tcp(TcpSocket& socket, bool abort) noexcept;
  void close_udp(UdpSocket& socket, bool abort) noexcept;
  void close_listener(Listener& listener) noexcept;
  void udp_drained(UdpSocket& socket) noexcept;
  void uncount_backlog(TcpSocket& socket) noexcept;
  // The application side needs nothing more: tell it, or cut it if there is nobody to tell.
  void release(Socket& socket) noexcept;
  void destroy_if_done(Socket& socket) noexcept;
  void leave_listener(TcpSocket& socket) noexcept;
  void reap() noexcept;
  void recycle_time_wait() noexcept;
  void detach_some() noexcept;

  // ---- events.cc ----
  void tell(Socket& socket, uint16_t bits) noexcept;
  void tell_error(Socket& socket, int error) noexcept;
  void make_ready(Socket& socket) noexcept {
    if (!static_cast<ListNode<ReadyTag>&>(socket).is_linked()) ready_.push_back(socket);
  }
  void tell_acked(Socket& socket, uint32_t acked, uint32_t outstanding) noexcept;
  // ---- error_queue.cc ----
  // Whether the socket wants errors of datagrams to `remote` in its queue.
  [[nodiscard]] static bool wants_errors(const Socket& socket, const IpAddress& remote) noexcept {
    return (socket.receive_errors & (remote.is_v4() ? 1 : 2)) != 0;
  }
  // An error of its own, SO_EE_ORIGIN_LOCAL: EMSGSIZE with the MTU that rules.
  void queue_local_error(UdpSocket& socket, const Endpoint& remote, int error,
                         uint32_t mtu) noexcept;
  void queue_icmp_error(UdpSocket& socket, const RxPacket& packet, const ParsedPacket& parsed,
                        const wire::QuotedPacket& quoted, const IcmpReport& report) noexcept;
  void queue_error(UdpSocket& socket, SocketError& error) noexcept;
  // The neighbor of a datagram does not answer (RFC 4861 7.2.2, RFC 1122 2.4): told as a router
  // would.
  void tell_unreachable(const TxFrame& lost) noexcept;
  // IP_RECVERR of TCP: what does not end the connection is told all the same, at once.
  void tell_soft_error(TcpSocket& socket, const wire::QuotedPacket& quoted, int error) noexcept;

  [[nodiscard]] bool next_event(Socket& socket, AppEvent* event) noexcept;
  [[nodiscard]] bool rare_event(const Socket& socket, AppEvent* event) const noexcept;
  [[nodiscard]] bool accept_event(const Socket& socket, AppEvent* event) const noexcept;
  void event_taken(Socket& socket, const AppEvent& event) noexcept;
  [[nodiscard]] static uint32_t tx_acked_of(const Socket& socket) noexcept;

  [[nodiscard]] auto key_of() const noexcept {
    return [this](uint32_t index) noexcept -> const FlowKey& { return tcp_[index].key; };
  }
  [[nodiscard]] SocketInfo describe(const Socket& socket) const noexcept;
  // ---- invariants.cc ----
  void check_connection(const TcpSocket& socket) const;
  void check_app(const AppState& app) const;

  StackConfig config_;
  Time now_{};
  TcpContext ctx_;
  uint64_t random_;
  InterfaceTable interfaces_;
  RouteTable own_routes_;  // of the configuration
  const RouteTable* routes_ = &own_routes_;
  KeyedHash flow_hash_;
  TimerWheel wheel_;  // before the sockets: their timers leave it as they go
  NeighborTable neighbors_;
  ArpResponder arp_;
  NdResponder nd_;
  GroupTable groups_;
  RouterDiscovery routers_;
  ControlQueue control_;
  Reassembler reassembler_;
  PathMtuTable path_mtu_;
  RateLimit icmp_limit_;
  RateLimit reset_limit_;
  std::unique_ptr<Exceptions> exceptions_;  // null: none
  std::array<uint64_t, 2> isn_key_;
  std::array<uint64_t, 2> port_key_;
  SynCookieSecret cookie_secret_;
  uint32_t handshakes_ = 0;  // connections of listeners that are not established yet
  uint32_t port_counter_ = 0;
  uint16_t ip_id_ = 0;

  IntrusiveList<Socket, ReadyTag> ready_;
  IntrusiveList<Socket, TouchedTag> touched_;
  std::unique_ptr<IntrusiveList<Socket, ReadyTag>[]> waiting_;  // by neighbor
  TcpRangePool ranges_;
  TxExtentPool extents_;
  FlowIndex flows_;
  ListenerTable listener_table_;
  UdpTable udp_table_;
  Slab<TcpSocket> tcp_;
  Slab<UdpSocket> udp_;
  Slab<Listener> listeners_;
  Slab<UdpSend> udp_sends_;
  std::unique_ptr<AppState[]> apps_;
  std::vector<AppId> detaching_;  // capacity max_apps

  // More than one packet that are handled as one; count 1: there is none such.
  struct Run {
    const RxPacket* packets = nullptr;
    const ParsedPacket* parsed = nullptr;
    size_t count = 1;
  } run_;
  // The way of the last datagram of this egress() to a neighbor whose address is known, IPv4.
  struct KnownWay {
    IpAddress to, asked, source;
    uint32_t mtu = 0;  // 0: there is none
    uint16_t interface = 0;
    uint16_t zone = 0;
    MacAddress mac;
  } known_way_;
  // The neighbor of the last connection of this egress(), if its address is known. Another one's
  // entry may be given up for a new neighbor: find_path() forgets it.
  static constexpr NeighborHandle kNoNeighbor{NeighborTable::kNone, UINT32_MAX};
  NeighborHandle known_neighbor_ = kNoNeighbor;
  // Where the last datagram of this burst went, if datagrams of all senders go there.
  struct KnownUdp {
    PacketTarget target{.drop = Drop::kCount, .mac_destination = {}, .destination = {}};  // none
    uint32_t socket = UdpTable::kNone;
  } known_udp_;
  // The current burst. Here, so that it is not cleared for each.
  struct Burst {
    std::array<ParsedPacket, kBurst> parsed;
    std::array<FlowKey, kBurst> keys;    // of its TCP segments, in order
    std::array<uint32_t, kBurst> flows;  // what they belong to
    // Of a packet in keys and flows, kNoPosition if it has none; one more ends them.
    std::array<uint8_t, kBurst + 1> position;
  } burst_;
  // Connections that the current burst touched, and sockets that ended in it.
  std::array<TcpSocket*, kBurst> batch_{};
  size_t batch_size_ = 0;
  IntrusiveList<Socket, ReadyTag> dead_;
  IntrusiveList<TcpSocket, ChildTag> time_wait_;  // oldest first
  // Errors of this turn, of all sockets; bounded, what is more is lost.
  struct ErrorQueue {
    static constexpr size_t kRoom = 32;
    std::array<SocketError, kRoom> entries;
    size_t count = 0;
    size_t taken = 0;
  } errors_;
  // A segment longer than a frame, being cut up.
  struct Cut {
    TcpSocket* socket = nullptr;
    TcpSegment segment;
    uint32_t done = 0;  // payload bytes sent
  } cut_;
};

}  // namespace postern
