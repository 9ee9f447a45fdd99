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
  if (binding.remote.port != 0) ++connected_on_port_[binding.local.port];
}

void UdpTable::remove(uint32_t socket) noexcept {
  const Node& node = nodes_[socket];
  uint32_t* link = &buckets_[node.hash & mask_];
  while (*link != socket) link = &nodes_[*link].next;
  *link = node.next;
  if (node.binding.remote.port != 0) --connected_on_port_[node.binding.local.port];
}

// Among several equal bindings `remote` chooses, the same for all datagrams of a flow.
UdpTable::Found UdpTable::find_equal(const Endpoint& local, const Endpoint& peer,
                                     const Endpoint& remote, bool is_v4) const noexcept {
  const uint32_t hash = hash_of(local, peer);
  uint32_t found = kNone;
  uint32_t count = 0;
  uint32_t flow = 0;
  for (uint32_t i = buckets_[hash & mask_]; i != kNone; i = nodes_[i].next) {
    const Node& n = nodes_[i];
    if (n.hash != hash || n.binding.local != local || n.binding.remote != peer ||
        (is_v4 && n.binding.v6_only)) {
      continue;
    }
    ++count;
    if (count == 2) flow = hash_of(local, remote);
    if (count == 1 || flow % count == 0) found = i;
  }
  return {found, count == 1};
}

// Bound to the address, or to the port alone.
UdpTable::Found UdpTable::find_bound(const Endpoint& local, const Endpoint& peer,
                                     const Endpoint& remote) const noexcept {
  const bool is_v4 = local.address.is_v4();
  Found found = find_equal(local, peer, remote, is_v4);
  if (found.socket == kNone && is_v4) {
    found = find_equal({kAny4, local.port}, peer, remote, is_v4);
  }
  if (found.socket == kNone) found = find_equal({kAny6, local.port}, peer, remote, is_v4);
  return found;
}

UdpTable::Found UdpTable::find(const Endpoint& local, const Endpoint& remote) const noexcept {
  const bool connected = connected_on(local.port);
  if (connected) {
    const Found found = find_bound(local, remote, remote);
    if (found.socket != kNone) return {found.socket, false};
  }
  Found found = find_bound(local, {}, remote);
  found.whoever_sends = found.whoever_sends && !connected;
  return found;
}

}  // namespace postern
