// Neighbor discovery of the link: who has the peer's address, and the answer for our own.
#include "link_nd.h"

#include <netinet/in.h>
#include <rte_ip.h>

#include <cstring>

#include "frame.h"
#include "link.h"

namespace postern::perf {
namespace {

// RFC 4861 4.3 and 4.4, with one option of one link-layer address.
struct Message {
  uint8_t type;
  uint8_t code;
  rte_be16_t checksum;
  rte_be32_t flags;
  uint8_t target[16];
  uint8_t option;
  uint8_t option_length;  // in units of 8 bytes
  rte_ether_addr mac;
};
static_assert(sizeof(Message) == 32);

constexpr uint8_t kSourceMac = 1, kTargetMac = 2;
constexpr uint32_t kSolicited = 0x40000000, kOverride = 0x20000000;
constexpr size_t kWithoutOption = 24;

uint32_t low_of(const uint8_t* address) {
  rte_be32_t low = 0;
  std::memcpy(&low, address + 12, sizeof low);
  return rte_be_to_cpu_32(low);
}

bool same_prefix(const uint8_t* address, const HostAddress& host) {
  return std::memcmp(address, host.prefix.data(), host.prefix.size()) == 0;
}

}  // namespace

bool Link::take_icmp6(const rte_mbuf* m) noexcept {
  if (m->data_len < sizeof(rte_ether_hdr) + sizeof(rte_ipv6_hdr)) return true;
  const auto* ip = rte_pktmbuf_mtod_offset(m, const rte_ipv6_hdr*, sizeof(rte_ether_hdr));
  if (ip->proto == IPPROTO_HOPOPTS) return true;  // MLD
  if (ip->proto != IPPROTO_ICMPV6) return false;
  const auto* message = reinterpret_cast<const Message*>(ip + 1);
  if (m->data_len < sizeof(rte_ether_hdr) + sizeof *ip + kWithoutOption) return true;
  const auto* source = reinterpret_cast<const uint8_t*>(&ip->src_addr);
  const auto* ether = rte_pktmbuf_mtod(m, const rte_ether_hdr*);
  if (message->type == kNeighborAdvertisement && !peer_known_ &&
      same_prefix(message->target, peer_) && low_of(message->target) == peer_.low) {
    peer_mac_ = ether->src_addr;
    peer_known_ = true;
  }
  static constexpr uint8_t kUnspecified[16] = {};
  const uint32_t target = low_of(message->target);
  if (message->type == kNeighborSolicitation && same_prefix(message->target, local_) &&
      is_local(target) && std::memcmp(source, kUnspecified, 16) != 0 && room() != 0) {
    send_nd(kNeighborAdvertisement, ether->src_addr, source, target, message->target);
  }
  return true;
}

void Link::send_nd(uint8_t type, const rte_ether_addr& to, const uint8_t* destination,
                   uint32_t local, const uint8_t* target) {
  rte_mbuf* m = allocate(sizeof(rte_ether_hdr) + sizeof(rte_ipv6_hdr) + sizeof(Message));
  if (m == nullptr) return;
  auto* ether = rte_pktmbuf_mtod(m, rte_ether_hdr*);
  ether->dst_addr = to;
  ether->src_addr = mac_;
  ether->ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV6);
  auto* ip = reinterpret_cast<rte_ipv6_hdr*>(ether + 1);
  ip->vtc_flow = RTE_BE32(6u << 28);
  ip->payload_len = RTE_BE16(sizeof(Message));
  ip->proto = IPPROTO_ICMPV6;
  ip->hop_limits = 255;  // RFC 4861 7.1: anything less is not from this link
  std::memcpy(&ip->src_addr, local_.bytes(local).data(), 16);
  std::memcpy(&ip->dst_addr, destination, 16);
  auto* message = reinterpret_cast<Message*>(ip + 1);
  const bool asks = type == kNeighborSolicitation;
  *message = {};
  message->type = type;
  message->flags = asks ? 0 : rte_cpu_to_be_32(kSolicited | kOverride);
  std::memcpy(message->target, target, sizeof message->target);
  message->option = asks ? kSourceMac : kTargetMac;
  message->option_length = 1;
  message->mac = mac_;
  const uint64_t sum = uint64_t{sum_bytes(reinterpret_cast<const uint8_t*>(&ip->src_addr), 32)} +
                       IPPROTO_ICMPV6 + sizeof *message +
                       sum_bytes(reinterpret_cast<const uint8_t*>(message), sizeof *message);
  message->checksum = rte_cpu_to_be_16(static_cast<uint16_t>(~fold(sum)));
  send(m);
}

}  // namespace postern::perf
