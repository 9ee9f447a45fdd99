// Which addresses `postern run` leaves to the kernel.
#include "client/preload/policy.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <string>

#include "abi/shmsock.h"

namespace {

bool is_kernel(const struct policy& policy, const std::string& text, bool connecting = true) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    return policy_is_kernel(&policy, reinterpret_cast<sockaddr*>(&v4), sizeof v4, connecting);
  }
  EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr), 1) << text;
  return policy_is_kernel(&policy, reinterpret_cast<sockaddr*>(&v6), sizeof v6, connecting);
}

TEST(Policy, LoopbackIsTheKernels) {
  const struct policy policy = {};
  for (const char* text : {"127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_kernel(policy, text)) << text;
  }
  for (const char* text : {"192.0.2.1", "128.0.0.1", "126.255.255.255", "::ffff:192.0.2.1", "::2",
                           "2001:db8::1", "fe80::1"}) {
    EXPECT_FALSE(is_kernel(policy, text)) << text;
  }
}

TEST(Policy, WildcardsListenOnPosternAndConnectToLoopback) {
  const struct policy policy = {};
  for (const char* text : {"0.0.0.0", "::", "::ffff:0.0.0.0"}) {
    EXPECT_FALSE(is_kernel(policy, text, false)) << text;
    EXPECT_TRUE(is_kernel(policy, text, true)) << text;
  }
}

TEST(Policy, TheLongestNetworkDecides) {
  shm_settings settings{};
  const auto add = [&](const char* address, uint8_t bits, bool kernel) {
    shm_network& n = settings.networks[settings.network_count++];
    ASSERT_EQ(inet_pton(AF_INET6, address, n.address), 1);
    n.bits = bits;
    n.kernel = kernel;
  };
  add("::ffff:10.0.0.0", 96 + 8, true);
  add("::ffff:10.1.0.0", 96 + 16, false);
  add("::ffff:10.1.2.0", 96 + 24, true);
  add("2001:db8::", 32, true);
  struct policy policy = {};
  policy_take(&policy, &settings);
  EXPECT_TRUE(is_kernel(policy, "10.2.0.1"));
  EXPECT_FALSE(is_kernel(policy, "10.1.0.1"));
  EXPECT_TRUE(is_kernel(policy, "10.1.2.1"));
  EXPECT_FALSE(is_kernel(policy, "11.0.0.1"));
  EXPECT_TRUE(is_kernel(policy, "2001:db8::1"));
  EXPECT_FALSE(is_kernel(policy, "2001:db9::1"));
  EXPECT_FALSE(policy.both);
  settings.both_sides = 1;
  policy_take(&policy, &settings);
  EXPECT_TRUE(policy.both);
}

TEST(Policy, TheEnvironmentWinsAmongEquals) {
  shm_settings settings{};
  settings.network_count = 1;
  ASSERT_EQ(inet_pton(AF_INET6, "::ffff:10.0.0.0", settings.networks[0].address), 1);
  settings.networks[0].bits = 96 + 8;
  struct policy policy = {};
  ASSERT_TRUE(policy_add(&policy, "10.0.0.0/8"));
  policy_take(&policy, &settings);
  EXPECT_TRUE(is_kernel(policy, "10.0.0.1"));
  policy_take(&policy, nullptr);
  EXPECT_EQ(policy.count, 2u);
}

TEST(Policy, BothSidesAreForWildcards) {
  struct policy policy = {};
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  const auto wants = [&] {
    return policy_wants_both(&policy, reinterpret_cast<sockaddr*>(&v4), sizeof v4);
  };
  EXPECT_FALSE(wants());
  policy.both = true;
  EXPECT_TRUE(wants());
  inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr);
  EXPECT_FALSE(wants());
}

TEST(Policy, OtherFamiliesAndShortAddressesAreTheKernels) {
  const struct policy policy = {};
  sockaddr_in v4{};
  v4.sin_family = AF_UNIX;
  EXPECT_TRUE(policy_is_kernel(&policy, reinterpret_cast<sockaddr*>(&v4), sizeof v4, true));
  v4.sin_family = AF_INET;
  inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr);
  EXPECT_TRUE(policy_is_kernel(&policy, reinterpret_cast<sockaddr*>(&v4), sizeof v4 - 1, true));
}

TEST(Policy, Networks) {
  struct policy policy = {};
  ASSERT_TRUE(policy_add(&policy, "198.51.100.7,10.0.0.0/8"));
  ASSERT_TRUE(policy_add(&policy, "203.0.113.128/25,2001:db8:7::/48"));
  for (const char* text :
       {"198.51.100.7", "10.255.0.1", "203.0.113.128", "::ffff:10.0.0.1", "2001:db8:7:8::9"}) {
    EXPECT_TRUE(is_kernel(policy, text)) << text;
  }
  for (const char* text :
       {"198.51.100.6", "11.0.0.1", "203.0.113.127", "192.0.2.1", "2001:db8:6::1"}) {
    EXPECT_FALSE(is_kernel(policy, text)) << text;
  }
  struct policy all = {};
  ASSERT_TRUE(policy_add(&all, "0.0.0.0/0"));
  EXPECT_TRUE(is_kernel(all, "8.8.8.8"));
}

TEST(Policy, MalformedListsAreRefused) {
  for (const char* text : {"10.0.0.0/33", "10.0.0", "10.0.0.0/", "10.0.0.0/8x", "::1/129", "name",
                           "10.0.0.1,,10.0.0.2", "10.0.0.1;10.0.0.2"}) {
    struct policy policy = {};
    EXPECT_FALSE(policy_add(&policy, text)) << text;
  }
}

TEST(Policy, KindsOfSockets) {
  const struct policy policy = {};
  EXPECT_TRUE(policy_covers(&policy, AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  EXPECT_TRUE(policy_covers(&policy, AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
  EXPECT_FALSE(policy_covers(&policy, AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
  EXPECT_FALSE(policy_covers(&policy, AF_INET, SOCK_RAW, 0));
  EXPECT_FALSE(policy_covers(&policy, AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FALSE(policy_covers(&policy, AF_INET, SOCK_STREAM, IPPROTO_UDP));
  struct policy off = {};
  off.off = true;
  EXPECT_FALSE(policy_covers(&off, AF_INET, SOCK_STREAM, 0));
}

}  // namespace
