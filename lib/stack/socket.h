// The sockets of a worker. A socket has two sides: towards the application (slot, receive chain,
// news to tell) and towards the network (connection, flow entry, timer). Either may end first; the
// object goes when both have.
#pragma once

#include <array>
#include <cstdint>

#include "base/address.h"
#include "base/intrusive_list.h"
#include "base/slab.h"
#include "base/timer_wheel.h"
#include "flow/flow_table.h"
#include "flow/listener_table.h"
#include "ip/neighbor_table.h"
#include "stack/rx_chain.h"
#include "stack/tx_queue.h"
#include "tcp/connection.h"

namespace postern {

inline constexpr uint16_t kNoApp = UINT16_MAX;

enum class SocketKind : uint8_t { none, tcp, udp, listener };

struct ReadyTag;    // has something to send, or waits for its neighbor
struct TouchedTag;  // has news for its application
struct AppTag;      // sockets of one application
struct ChildTag;    // connections of a listener that it has not announced yet; then, those of the
                    // worker in TIME-WAIT

// What the application is still to be told. Bits.
namespace news {
inline constexpr uint8_t accept = 1;  // a connection of a listener: told before anything else
inline constexpr uint8_t update = 2;  // rx_tail or tx_acked
inline constexpr uint8_t eof = 4;
inline constexpr uint8_t connected = 8;
inline constexpr uint8_t error = 16;
inline constexpr uint8_t released = 32;  // told last
inline constexpr uint8_t urgent = 64;    // ring the doorbell
inline constexpr uint8_t mark = 128;     // urgent data of TCP
inline constexpr uint16_t queued =
    256;  // UDP: an error in the queue; TCP: one that does not end it
}  // namespace news

struct Socket : ListNode<ReadyTag>, ListNode<TouchedTag>, ListNode<AppTag> {
  explicit Socket(SocketKind kind_) noexcept : kind(kind_) {}

  SocketKind kind;
  uint16_t news = 0;
  bool want_tx = false;  // a writer waits for tx_acked to move; as the last SEND said
  bool closed = false;   // by the application, or it is gone
  bool read_shutdown = false;
  bool write_shutdown = false;
  bool network_done = false;  // nothing is left towards the network (or nothing began)
  bool dead = false;          // about to be destroyed
  bool in_batch = false;      // listed to be settled at the end of the burst
  bool owned = false;         // counts in an application
  uint16_t app = kNoApp;
  uint16_t error = 0;          // errno value, with news::error, and with news::queued of TCP
  uint8_t receive_errors = 0;  // SocketOption::receive_errors
  uint32_t slot = UINT32_MAX;
  uint32_t generation = 0;
  uint32_t told_rx_tail = 0;
  uint32_t told_tx_acked = 0;
  RxChain rx;
};

struct Listener;

struct TcpSocket : Socket, ListNode<ChildTag> {
  TcpSocket() noexcept : Socket(SocketKind::tcp) { network_done = true; }

  TcpConnection tcp;
  TxQueue tx;
  FlowKey key;
  NeighborHandle neighbor;
  Timer timer;
  SlabHandle listener;          // of a connection that it has not announced yet
  uint16_t pending_events = 0;  // tcp_event bits taken from the engine, not yet acted on
  uint16_t interface = 0;
  uint8_t tos = 0;
  uint8_t ttl = 0;      // 0: the default of the way
  bool opened = false;  // connect() was called, or it was accepted
  bool in_flow_table = false;
  bool is_v4 = false;             // key has IPv4 addresses
  bool app_storage_free = false;  // the engine raised tcp_event::released
  bool counted_backlog = false;   // counts in its listener's syn_received
};

// A datagram queued to be sent.
struct UdpSend {
  uint64_t offset = 0;  // of the payload in the transmit region
  uint32_t length = 0;
  uint32_t record_bytes = 0;  // of the transmit stream, given back when it is sent
  Endpoint remote;
  IpAddress local;    // any: chosen by route
  uint32_t sent = 0;  // payload bytes sent already, of a datagram that goes in fragments
  uint32_t next = UINT32_MAX;
  uint32_t id = 0;    // identification of its fragments
  uint16_t zone = 0;  // of a link-local destination
  uint8_t tos = 0;
  uint8_t ttl = 0;
};

// IP_MTU_DISCOVER, in the order of Linux's values.
enum class MtuDiscover : uint8_t {
  dont,   // routers may fragment (IPv4); what they tell is heeded and not reported
  want,   // they may not; datagrams too large for the path go in fragments
  only,   // IP_PMTUDISC_DO: datagrams too large for the path are refused
  probe,  // those too large for the link are refused, whatever is known of the path
};

struct UdpSocket : Socket {
  UdpSocket() noexcept : Socket(SocketKind::udp) {}

  uint32_t send_head = UINT32_MAX;
  uint32_t send_tail = UINT32_MAX;
  uint32_t send_count = 0;
  uint32_t tx_acked = 0;  // stream positions, in record bytes
  uint32_t tx_tail = 0;
  uint32_t receive_limit = 0;  // bytes of unread records
  uint16_t zone = 0;           // of the link-local address that it is connected to
  uint8_t tos = 0;
  uint8_t ttl = 0;  // 0: the default of the way
  MtuDiscover mtu_discover = MtuDiscover::want;
  // RFC 1112 6.1, RFC 3493 5.2, and what Linux adds.
  uint16_t group_interface = 0;  // of groups sent to, plus 1; 0: the routes decide
  uint8_t group_ttl = 1;
  bool group_loop = true;    // what it sends comes to members on this host, too
  bool group_others = true;  // receives from groups that it has not joined itself
  bool broadcast = false;    // may send to broadcast addresses
  bool bound = false;        // in the UDP table
};

struct Listener : Socket {
  Listener() noexcept : Socket(SocketKind::listener) {}

  IntrusiveList<TcpSocket, ChildTag> children;
  Endpoint local;
  uint32_t next_sharer = kNoListener;  // another listener on this address (SO_REUSEPORT)
  uint32_t backlog = 0;
  uint32_t syn_received = 0;  // connections in handshake
  uint32_t unaccepted = 0;    // established, not yet taken by accept()
  Time cookies_until{};       // the last cookie that it sent is good until then
  // Options that connections inherit.
  uint8_t tos = 0;
  uint8_t ttl = 0;           // 0: the default of the way
  uint16_t options_set = 0;  // by TcpOption
  std::array<uint32_t, kTcpOptionCount> options{};
};

}  // namespace postern
