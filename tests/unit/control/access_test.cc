#include "control/access.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace postern {
namespace {

AccessRule user_rule(uint32_t uid) {
  AccessRule rule;
  rule.uid = uid;
  rule.who = "user";
  return rule;
}

AccessRule group_rule(uint32_t gid) {
  AccessRule rule;
  rule.gid = gid;
  rule.who = "group";
  return rule;
}

TEST(AccessPolicy, NobodyByDefault) {
  const AccessPolicy policy({});
  EXPECT_EQ(policy.rule_for({1, 0, 0, {}}), nullptr) << "root neither";
  EXPECT_EQ(policy.rule_for({1, 1000, 1000, {}}), nullptr);
}

TEST(AccessPolicy, MatchesUserPrimaryAndSupplementaryGroup) {
  const AccessPolicy policy({user_rule(1000), group_rule(100)});
  EXPECT_EQ(policy.rule_for({1, 1000, 7, {}})->who, "user");
  EXPECT_EQ(policy.rule_for({1, 5, 100, {}})->who, "group");
  EXPECT_EQ(policy.rule_for({1, 5, 7, {8, 100}})->who, "group");
  EXPECT_EQ(policy.rule_for({1, 5, 7, {8}}), nullptr);
  EXPECT_EQ(policy.rule_for({1, 100, 7, {}}), nullptr) << "a uid is not a gid";
}

TEST(AccessPolicy, FirstMatchCounts) {
  const AccessPolicy policy({group_rule(100), user_rule(1000)});
  EXPECT_EQ(policy.rule_for({1, 1000, 100, {}})->who, "group");
}

TEST(MayBind, RangesAndProtocols) {
  AccessRule rule = user_rule(1);
  rule.bind = {{IPPROTO_TCP, 80, 80}, {IPPROTO_UDP, 5000, 6000}};
  EXPECT_TRUE(may_bind(rule, IPPROTO_TCP, 80));
  EXPECT_FALSE(may_bind(rule, IPPROTO_TCP, 81));
  EXPECT_FALSE(may_bind(rule, IPPROTO_UDP, 80));
  EXPECT_TRUE(may_bind(rule, IPPROTO_UDP, 5000));
  EXPECT_TRUE(may_bind(rule, IPPROTO_UDP, 6000));
  EXPECT_FALSE(may_bind(rule, IPPROTO_UDP, 6001));
  EXPECT_TRUE(may_bind(rule, IPPROTO_TCP, 0)) << "a port of the daemon's choice";
}

TEST(PeerCredentials, AreOurOwnOverASocketPair) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
  const Credentials peer = peer_credentials(fds[0]);
  EXPECT_EQ(peer.pid, getpid());
  EXPECT_EQ(peer.uid, geteuid());
  EXPECT_EQ(peer.gid, getegid());
  std::vector<gid_t> groups(static_cast<size_t>(getgroups(0, nullptr)));
  ASSERT_EQ(getgroups(static_cast<int>(groups.size()), groups.data()),
            static_cast<int>(groups.size()));
  EXPECT_TRUE(
      std::is_permutation(groups.begin(), groups.end(), peer.groups.begin(), peer.groups.end()));
  close(fds[0]);
  close(fds[1]);
}

TEST(PeerCredentials, RefusesWhatIsNoSocket) {
  EXPECT_THROW(peer_credentials(-1), std::system_error);
}

}  // namespace
}  // namespace postern
