#include "control/port_table.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cerrno>
#include <set>

namespace postern {
namespace {

const IpAddress kOurs = IpAddress::v4(0xc0000201);   // 192.0.2.1
const IpAddress kOurs2 = IpAddress::v4(0xc0000202);  // 192.0.2.2
const IpAddress kOther = IpAddress::v4(0xc0000203);
const IpAddress kAny4 = IpAddress::v4(0);
const IpAddress kAny6;

Reservation want(uint16_t app, uint8_t protocol, const IpAddress& address, uint16_t port,
                 uint32_t flags = 0, uint32_t uid = 1000) {
  Reservation r;
  r.app = app;
  r.uid = uid;
  r.protocol = protocol;
  r.flags = flags;
  r.local = {address, port};
  return r;
}

Reservation want6(uint16_t app, uint8_t protocol, uint16_t port, uint32_t flags) {
  Reservation r = want(app, protocol, kAny6, port, flags);
  r.is_v6 = true;
  return r;
}

class PortTableTest : public testing::Test {
 protected:
  PortTable table_{{kOurs, kOurs2}, 40000, 40009};
  int bind(const Reservation& r) { return table_.bind(r, 0).error; }
};

TEST_F(PortTableTest, OnePortOneOwner) {
  const auto first = table_.bind(want(1, IPPROTO_TCP, kOurs, 80), 0);
  EXPECT_EQ(first.error, 0);
  EXPECT_NE(first.binding, 0u);
  EXPECT_EQ(first.local, (Endpoint{kOurs, 80}));
  EXPECT_EQ(bind(want(2, IPPROTO_TCP, kOurs, 80)), EADDRINUSE);
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, kOurs, 80)), EADDRINUSE);
  EXPECT_EQ(bind(want(2, IPPROTO_UDP, kOurs, 80)), 0) << "protocols have their own ports";
  EXPECT_EQ(bind(want(2, IPPROTO_TCP, kOurs2, 80)), 0) << "another address";
  EXPECT_EQ(bind(want(2, IPPROTO_TCP, kAny4, 80)), EADDRINUSE) << "any includes each";
}

// Members of a group take nothing from each other: each gets a copy.
TEST_F(PortTableTest, GroupsMayBeSharedByUsers) {
  const IpAddress group = IpAddress::v4(0xef010203);
  const auto member = [&](uint16_t app, uint32_t uid, uint32_t flags) {
    return want(app, IPPROTO_UDP, group, 5000, flags, uid);
  };
  EXPECT_EQ(bind(member(1, 1000, SHM_BIND_REUSEADDR)), 0);
  EXPECT_EQ(bind(member(2, 1001, SHM_BIND_REUSEADDR)), 0) << "another user";
  EXPECT_EQ(bind(member(3, 1000, 0)), EADDRINUSE) << "it does not say so itself";
  EXPECT_EQ(bind(want(4, IPPROTO_UDP, kAny4, 5000, SHM_BIND_REUSEADDR, 1001)), EADDRINUSE)
      << "the wildcard takes more than the group";
  EXPECT_EQ(bind(want(5, IPPROTO_TCP, group, 5000)), EADDRNOTAVAIL);
  EXPECT_EQ(bind(want(6, IPPROTO_UDP, IpAddress::v4(UINT32_MAX), 67)), 0);
}

TEST_F(PortTableTest, WildcardHoldsAllAddresses) {
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, kAny4, 80)), 0);
  EXPECT_EQ(bind(want(2, IPPROTO_TCP, kOurs, 80)), EADDRINUSE);
}

TEST_F(PortTableTest, FamiliesOfTheWildcard) {
  EXPECT_EQ(bind(want6(1, IPPROTO_TCP, 80, SHM_BIND_V6ONLY)), 0);
  EXPECT_EQ(bind(want(2, IPPROTO_TCP, kAny4, 80)), 0) << "V6ONLY leaves IPv4 to others";
  EXPECT_EQ(bind(want6(3, IPPROTO_TCP, 80, 0)), EADDRINUSE);
  EXPECT_EQ(bind(want6(1, IPPROTO_TCP, 81, 0)), 0);
  EXPECT_EQ(bind(want(2, IPPROTO_TCP, kOurs, 81)), EADDRINUSE) << "dual-stack takes IPv4 too";
}

TEST_F(PortTableTest, AddressMustBeOurs) {
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, kOther, 80)), EADDRNOTAVAIL);
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, IpAddress::v4(0xe0000001), 80)), EADDRNOTAVAIL);
}

TEST_F(PortTableTest, BadRequests) {
  EXPECT_EQ(bind(want(1, IPPROTO_ICMP, kOurs, 80)), EINVAL);
  const uint8_t v6[16] = {0x20, 1, 0xd, 0xb8};
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, IpAddress::v6(v6), 80)), EAFNOSUPPORT);
  Reservation mapped = want(1, IPPROTO_TCP, kOurs, 80, SHM_BIND_V6ONLY);
  mapped.is_v6 = true;
  EXPECT_EQ(bind(mapped), EINVAL) << "IPv4 on a socket that is for IPv6 only";
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(PortTableTest, ReuseAddressUntilOneListens) {
  const auto a = table_.bind(want(1, IPPROTO_TCP, kOurs, 80, SHM_BIND_REUSEADDR), 0);
  const auto b = table_.bind(want(1, IPPROTO_TCP, kOurs, 80, SHM_BIND_REUSEADDR), 0);
  EXPECT_EQ(a.error, 0);
  EXPECT_EQ(b.error, 0);
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, kOurs, 80)), EADDRINUSE) << "both must say so";
  EXPECT_EQ(table_.listen(1, a.binding), 0);
  EXPECT_EQ(table_.listen(1, b.binding), EADDRINUSE);
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, kOurs, 80, SHM_BIND_REUSEADDR)), EADDRINUSE);
  table_.unlisten(a.binding);
  EXPECT_EQ(table_.listen(1, b.binding), 0);
}

TEST_F(PortTableTest, ReusePortWithinOneUserOnly) {
  const uint32_t reuse = SHM_BIND_REUSEPORT;
  const auto a = table_.bind(want(1, IPPROTO_TCP, kOurs, 80, reuse), 0);
  const auto b = table_.bind(want(2, IPPROTO_TCP, kOurs, 80, reuse), 0);
  EXPECT_EQ(b.error, 0);
  EXPECT_EQ(table_.listen(1, a.binding), 0);
  EXPECT_EQ(table_.listen(2, b.binding), 0);
  EXPECT_EQ(bind(want(3, IPPROTO_TCP, kOurs, 80, reuse, 1001)), EADDRINUSE);
}

TEST_F(PortTableTest, UdpReuseAddressWithinOneUserOnly) {
  EXPECT_EQ(bind(want(1, IPPROTO_UDP, kOurs, 53, SHM_BIND_REUSEADDR)), 0);
  EXPECT_EQ(bind(want(2, IPPROTO_UDP, kOurs, 53, SHM_BIND_REUSEADDR)), 0);
  EXPECT_EQ(bind(want(3, IPPROTO_UDP, kOurs, 53, SHM_BIND_REUSEADDR, 1001)), EADDRINUSE);
}

TEST_F(PortTableTest, ListenNeedsTheOwnersTcpBinding) {
  const auto tcp = table_.bind(want(1, IPPROTO_TCP, kOurs, 80), 0);
  const auto udp = table_.bind(want(1, IPPROTO_UDP, kOurs, 80), 0);
  EXPECT_EQ(table_.listen(2, tcp.binding), EINVAL) << "another's";
  EXPECT_EQ(table_.listen(1, udp.binding), EINVAL);
  EXPECT_EQ(table_.listen(1, 999), EINVAL);
  EXPECT_EQ(table_.listen(1, tcp.binding), 0);
  EXPECT_EQ(table_.listen(1, tcp.binding), EINVAL) << "twice";
}

TEST_F(PortTableTest, EphemeralPortsUntilNoneIsLeft) {
  std::set<uint16_t> ports;
  for (int i = 0; i < 10; ++i) {
    const auto result = table_.bind(want(1, IPPROTO_UDP, kAny4, 0, SHM_BIND_REUSEADDR), 7);
    ASSERT_EQ(result.error, 0);
    if (i == 0) {
      EXPECT_EQ(result.local.port, 40007) << "where the random number says";
    }
    EXPECT_TRUE(result.local.port >= 40000 && result.local.port <= 40009);
    ports.insert(result.local.port);
  }
  EXPECT_EQ(ports.size(), 10u) << "never shared, whatever the flags say";
  EXPECT_EQ(bind(want(1, IPPROTO_UDP, kOurs, 0)), EADDRINUSE);
  EXPECT_EQ(bind(want(1, IPPROTO_TCP, kOurs, 0)), 0);
}

TEST_F(PortTableTest, UnbindFreesAtOnce) {
  const auto a = table_.bind(want(1, IPPROTO_TCP, kOurs, 80), 0);
  EXPECT_FALSE(table_.unbind(2, a.binding)) << "another's";
  EXPECT_TRUE(table_.unbind(1, a.binding));
  EXPECT_FALSE(table_.unbind(1, a.binding));
  const auto b = table_.bind(want(2, IPPROTO_TCP, kOurs, 80), 0);
  EXPECT_EQ(b.error, 0);
  EXPECT_NE(b.binding, a.binding);
}

TEST_F(PortTableTest, HoldsWhileAnyReservationIsLeft) {
  const auto a = table_.bind(want(1, IPPROTO_TCP, kOurs, 80), 0);
  const auto b = table_.bind(want(1, IPPROTO_TCP, kOurs2, 80), 0);
  EXPECT_TRUE(table_.holds(1, IPPROTO_TCP, 80));
  EXPECT_FALSE(table_.holds(1, IPPROTO_UDP, 80));
  EXPECT_FALSE(table_.holds(2, IPPROTO_TCP, 80));
  table_.unbind(1, a.binding);
  EXPECT_TRUE(table_.holds(1, IPPROTO_TCP, 80));
  table_.unbind(1, b.binding);
  EXPECT_FALSE(table_.holds(1, IPPROTO_TCP, 80));
}

TEST_F(PortTableTest, DeathOfAnApplicationFreesItsPortsOnly) {
  for (uint16_t port = 1; port <= 100; ++port) {
    ASSERT_EQ(bind(want(1, IPPROTO_TCP, kOurs, port)), 0);
    ASSERT_EQ(bind(want(2, IPPROTO_TCP, kOurs2, port)), 0);
  }
  EXPECT_EQ(table_.count(1), 100u);
  table_.remove_app(1);
  EXPECT_EQ(table_.count(1), 0u);
  EXPECT_EQ(table_.count(2), 100u);
  EXPECT_EQ(table_.size(), 100u);
  EXPECT_EQ(bind(want(3, IPPROTO_TCP, kOurs, 50)), 0);
  EXPECT_EQ(bind(want(3, IPPROTO_TCP, kOurs2, 50)), EADDRINUSE);
}

}  // namespace
}  // namespace postern
