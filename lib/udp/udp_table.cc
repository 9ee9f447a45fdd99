#include "udp/udp_table.h"

#include <algorithm>
#include <bit>

namespace postern {
namespace {

constexpr IpAddress kAny4 = IpAddress::v4(0);
constexpr IpAddress kAny6{};

struct Key {
  IpAddress local;
  IpAddress remote;
  uint32_t local_port;
  uint32_t remote_port;
};

}  // namespace

UdpTable::UdpTable(uint32_t capacity, const HashSecret& secret)
    : nodes_(capacity),
      buckets_(std::bit_ceil(std::max<uint32_t>(capacity, 16) * 2), kNone),
      connected_on_port_(65536, 0),
      hash_(secret),
      mask_(static_cast<uint32_t>(buckets_.size() - 1)) {}

uint32_t UdpTable::hash_of(const Endpoint& local, const Endpoint& remote) const noexcept {
  const Key key{local.address, remote.port == 0 ? IpAddress{} : remote.address, local.port,
                remote.port};
  return static_cast<uint32_t>(hash_(key));
}

void UdpTable::insert(uint32_t socket, const UdpBinding& binding) noexcept {
  Node& node = nodes_[socket];
  node.binding = binding;
  if (binding.remote.port == 0) node.binding.remote = {};
  node.hash = hash_of(binding.local, node.binding.remote);
  uint32_t& bucket = buckets_[node.hash & mask_];
  node.next = bucket;
  bucket = socket;
  if (binding.remote.port != 0) {
    ++connected_;
    ++connected_on_port_[binding.local.port];
  }
}

void UdpTable::remove(uint32_t socket) noexcept {
  const Node& node = nodes_[socket];
  uint32_t* link = &buckets_[node.hash & mask_];
  while (*link != socket) link = &nodes_[*link].next;
  *link = node.next;
  if (node.binding.remote.port != 0) {
    --connected_;
    --connected_on_port_[node.binding.local.port];
  }
}

// Among several equal bindings `flow` chooses, the same for all datagrams of a flow.
uint32_t UdpTable::find_exact(const Endpoint& local, const Endpoint& remote, bool is_v4,
                              uint32_t flow) const noexcept {
  const uint32_t hash = hash_of(local, remote);
  const auto matches = [&](const Node& n) {
    return n.hash == hash && n.binding.local == local && n.binding.remote == remote &&
           !(is_v4 && n.binding.v6_only);
  };
  uint32_t found = kNone;
  uint32_t count = 0;
  for (uint32_t i = buckets_[hash & mask_]; i != kNone; i = nodes_[i].next) {
    if (!matches(nodes_[i])) continue;
    ++count;
    if (flow % count == 0) found = i;  // with one socket: that one
  }
  return found;
}

uint32_t UdpTable::find(const Endpoint& local, const Endpoint& remote) const noexcept {
  const bool is_v4 = local.address.is_v4();
  const Endpoint any4{kAny4, local.port}, any6{kAny6, local.port};
  const auto search = [&](const Endpoint& peer) {
    const uint32_t flow = hash_of(local, remote);
    uint32_t i = find_exact(local, peer, is_v4, flow);
    if (i == kNone && is_v4) i = find_exact(any4, peer, is_v4, flow);
    if (i == kNone) i = find_exact(any6, peer, is_v4, flow);
    return i;
  };
  if (connected_ != 0) {
    const uint32_t i = search(remote);
    if (i != kNone) return i;
  }
  return search({});
}

}  // namespace postern
