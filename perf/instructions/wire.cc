#include "wire.h"

#include <rte_eth_ring.h>

#include <cstring>
#include <stdexcept>

#include "dataplane/edge.h"

namespace postern::perf {
namespace {

rte_ring* make_ring(const std::string& name) {
  rte_ring* ring = rte_ring_create(name.c_str(), 1024, -1, RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (ring == nullptr) throw std::runtime_error("rte_ring_create");
  return ring;
}

void drain(rte_ring* ring) {
  void* packet = nullptr;
  while (rte_ring_dequeue(ring, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
  rte_ring_free(ring);
}

}  // namespace

Wire::Wire(const std::string& name, bool vouched)
    : vouched_(vouched),
      pool_(name, 4095, 2048, -1),
      in_(make_ring(name + "-in")),
      out_(make_ring(name + "-out")) {
  if (rte_eth_from_rings(name.c_str(), &in_, 1, &out_, 1, 0) < 0) {
    throw std::runtime_error("rte_eth_from_rings");
  }
  PortOptions options;
  options.name = name + "-port";
  options.device = "net_ring_" + name;
  port_ = Port::open(options);
}

Wire::~Wire() {
  rte_pktmbuf_free_bulk(held_.data(), static_cast<unsigned>(held_.size()));
  port_.reset();
  drain(in_);
  drain(out_);
}

void Wire::send(const std::byte* frame, uint32_t length) {
  rte_mbuf* packet = rte_pktmbuf_alloc(pool_.get());
  if (packet == nullptr) throw std::runtime_error("the wire's pool is empty");
  std::memcpy(rte_pktmbuf_append(packet, static_cast<uint16_t>(length)), frame, length);
  if (vouched_) packet->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
  if (rte_ring_enqueue(in_, packet) != 0) throw std::runtime_error("the wire is full");
}

std::span<const RxPacket> Wire::receive() {
  rte_pktmbuf_free_bulk(held_.data(), static_cast<unsigned>(held_.size()));
  held_.resize(kBurst);
  held_.resize(
      rte_ring_dequeue_burst(out_, reinterpret_cast<void**>(held_.data()), kBurst, nullptr));
  views_.clear();
  for (const rte_mbuf* packet : held_) {
    RxPacket view = view_of(packet, 0);
    if (vouched_) view.ip_checksum = view.l4_checksum = ChecksumVerdict::good;
    views_.push_back(view);
  }
  return views_;
}

}  // namespace postern::perf
