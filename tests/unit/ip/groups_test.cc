// Joins and leaves of sockets, and what routers hear of them: RFC 3376 5, 7 and RFC 3810 6, 8.
#include "ip/groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "wire/parse.h"

namespace postern {
namespace {

using Change = GroupTable::Change;

constexpr IpAddress kGroup = IpAddress::v4(0xe8010203);  // 232.1.2.3
constexpr IpAddress kOther = IpAddress::v4(0xe8010204);
constexpr IpAddress kSelf = IpAddress::v4(0x0a000001);
constexpr IpAddress source(uint32_t n) { return IpAddress::v4(0x0a010000 + n); }
const IpAddress kGroup6 = *IpAddress::parse("ff15::77");

// A record as "TYPE group {sources}", in the order of sources' addresses.
std::string record_text(const std::byte*& at, bool is_v6) {
  static const char* const kNames[] = {"?", "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"};
  const auto type = static_cast<uint8_t>(at[0]);
  const size_t count = static_cast<size_t>(at[2]) << 8 | static_cast<size_t>(at[3]);
  at += 4;
  const auto take = [&] {
    const IpAddress a = is_v6 ? wire::address_of(*reinterpret_cast<const wire::Ipv6Bytes*>(at))
                              : wire::address_of(*reinterpret_cast<const wire::Ipv4Bytes*>(at));
    at += is_v6 ? 16 : 4;
    return a.to_string();
  };
  std::string text = std::string(kNames[type < 7 ? type : 0]) + ' ' + take();
  std::vector<std::string> sources;
  for (size_t i = 0; i < count; ++i) sources.push_back(take());
  std::sort(sources.begin(), sources.end());
  for (const auto& s : sources) text += ' ' + s;
  return text;
}

struct Groups : ::testing::Test {
  GroupTable table{{.memberships = 64, .interfaces = 2, .speaks = true, .seed = 5}};
  Time now{100s};

  // Everything due now, as text; each packet must be good as the parser sees it.
  std::vector<std::string> said() {
    std::vector<std::string> all;
    GroupTable::Output out;
    while (table.next_output(now, &out)) {
      if (out.old) {
        static const char* const kNames[] = {"report1", "report2", "leave2"};
        all.push_back(std::string(kNames[static_cast<size_t>(out.message)]) + ' ' +
                      out.group.to_string());
        continue;
      }
      for (const std::string& r : packet(out)) all.push_back(r);
    }
    return all;
  }
  std::vector<std::string> packet(const GroupTable::Output& out) {
    std::vector<std::byte> bytes(14 + 1500);
    const IpAddress from = out.is_v6 ? *IpAddress::parse("fe80::1") : kSelf;
    wire::GroupReportWriter writer({bytes.data() + 14, 1500}, from);
    table.fill(out, writer, now);
    std::vector<std::string> all;
    if (writer.empty()) return all;
    const size_t l3 = writer.l3_length();
    const size_t length = writer.finish();
    const auto count = static_cast<size_t>(bytes[14 + l3 + 7]);
    const std::byte* at = bytes.data() + 14 + l3 + 8;
    for (size_t i = 0; i < count; ++i) all.push_back(record_text(at, out.is_v6));
    EXPECT_EQ(at, bytes.data() + 14 + length);
    return all;
  }
  // What is said from now until then, each with the time since `now`, at most `within` apart.
  std::vector<std::string> said_within(Duration time) {
    const Time end = now + time;
    std::vector<std::string> all = said();
    while (table.next_deadline() <= end) {
      now = table.next_deadline();
      for (const auto& s : said()) all.push_back(s);
    }
    now = end;
    return all;
  }
  int change(Change c, uint32_t socket, const IpAddress& group = kGroup,
             const IpAddress& from = IpAddress{}, uint16_t interface = 0) {
    return table.change(c, socket, group, interface, from, now);
  }
  void query(const IpAddress& group, Duration max, std::vector<uint32_t> sources = {},
             uint8_t version = 3) {
    std::vector<wire::Ipv4Bytes> bytes;
    for (const uint32_t n : sources) {
      const uint32_t v = source(n).v4_value();
      bytes.push_back({{static_cast<uint8_t>(v >> 24), static_cast<uint8_t>(v >> 16),
                        static_cast<uint8_t>(v >> 8), static_cast<uint8_t>(v)}});
    }
    wire::GroupQuery q;
    q.version = version;
    q.max_response = max;
    q.group = group;
    q.source_count = bytes.size();
    q.sources = reinterpret_cast<const std::byte*>(bytes.data());
    table.on_query(q, false, 0, now);
  }
  void settled() { (void)said_within(10s); }
};
using Texts = std::vector<std::string>;

// ---- what sockets ask for; errors as Linux gives them ----

TEST_F(Groups, MembershipIsOfOneInterfaceAndCounted) {
  EXPECT_EQ(change(Change::join, 1), 0);
  EXPECT_EQ(change(Change::join, 1), EADDRINUSE);
  EXPECT_EQ(change(Change::join, 2), 0);
  EXPECT_TRUE(table.is_member(kGroup, 0));
  EXPECT_FALSE(table.is_member(kGroup, 1));
  EXPECT_EQ(change(Change::leave, 1), 0);
  EXPECT_TRUE(table.is_member(kGroup, 0)) << "the other socket is";
  EXPECT_EQ(change(Change::leave, 1), EADDRNOTAVAIL);
  table.leave_all(2, now);
  EXPECT_FALSE(table.is_member(kGroup, 0));
  EXPECT_EQ(change(Change::join, 1, kSelf), EINVAL) << "no group";
  EXPECT_EQ(change(Change::join, 1, kGroup, {}, 2), ENODEV);
}

TEST_F(Groups, FiltersDecideForEachSocket) {
  change(Change::join, 1);
  change(Change::block, 1, kGroup, source(7));
  change(Change::allow, 2, kGroup, source(8));
  EXPECT_TRUE(table.wants(1, kGroup, 0, source(8), false));
  EXPECT_FALSE(table.wants(1, kGroup, 0, source(7), true));
  EXPECT_TRUE(table.wants(2, kGroup, 0, source(8), false));
  EXPECT_FALSE(table.wants(2, kGroup, 0, source(7), true));
  EXPECT_TRUE(table.wants(3, kGroup, 0, source(7), true)) << "IP_MULTICAST_ALL";
  EXPECT_FALSE(table.wants(3, kGroup, 0, source(7), false));
}

TEST_F(Groups, ErrorsOfSourceFilters) {
  EXPECT_EQ(change(Change::block, 1, kGroup, source(1)), EINVAL) << "not a member";
  EXPECT_EQ(change(Change::disallow, 1, kGroup, source(1)), EADDRNOTAVAIL);
  change(Change::join, 1);
  EXPECT_EQ(change(Change::unblock, 1, kGroup, source(1)), EADDRNOTAVAIL) << "not blocked";
  EXPECT_EQ(change(Change::block, 1, kGroup, source(1)), 0);
  EXPECT_EQ(change(Change::block, 1, kGroup, source(1)), EADDRNOTAVAIL) << "blocked already";
  EXPECT_EQ(change(Change::allow, 1, kGroup, source(2)), EINVAL) << "the other mode, not empty";
  EXPECT_EQ(change(Change::unblock, 1, kGroup, source(1)), 0);
  EXPECT_EQ(change(Change::allow, 1, kGroup, source(2)), 0) << "an empty filter changes its mode";
  EXPECT_EQ(change(Change::disallow, 1, kGroup, source(2)), 0);
  EXPECT_FALSE(table.is_member(kGroup, 0)) << "including nothing is leaving";
}

TEST_F(Groups, EverythingIsBounded) {
  for (uint32_t n = 0; n < kMostGroupsOfSocket; ++n) {
    EXPECT_EQ(change(Change::join, 1, IpAddress::v4(0xe8000000 + n)), 0);
  }
  EXPECT_EQ(change(Change::join, 1), ENOBUFS) << "of one socket";
  for (uint32_t n = 0; n < kMostGroupSources; ++n) {
    EXPECT_EQ(change(Change::allow, 2, kGroup, source(n)), 0);
  }
  EXPECT_EQ(change(Change::allow, 2, kGroup, source(99)), ENOBUFS) << "sources of one filter";
  uint32_t joined = kMostGroupsOfSocket + 1;
  for (uint32_t socket = 10; socket < 100; ++socket) {
    if (change(Change::join, socket) == 0) ++joined;
  }
  EXPECT_EQ(joined, 64u) << "in all";
  for (uint32_t socket = 0; socket < 100; ++socket) table.leave_all(socket, now);
  settled();
  EXPECT_EQ(table.size(), 0u) << "nothing stays behind";
}

TEST_F(Groups, JoiningAndLeavingForeverCostsBoundedMemory) {
  for (uint32_t n = 0; n < 5000; ++n) {
    const int error = change(Change::join, 1, IpAddress::v4(0xe8000000 + n));
    if (error == 0) table.leave_all(1, now);
    EXPECT_TRUE(error == 0 || error == ENOBUFS);
  }
  EXPECT_LE(table.size(), 128u);
  settled();
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(change(Change::join, 1), 0);
}

// ---- state changes: RFC 3376 5.1 ----

TEST_F(Groups, JoiningIsToldAtOnceAndOnceMoreWithinASecond) {
  change(Change::join, 1);
  EXPECT_EQ(said(), Texts{"TO_EX 232.1.2.3"});
  ASSERT_LE(table.next_deadline(), now + 1s);
  EXPECT_EQ(said_within(10s), Texts{"TO_EX 232.1.2.3"});
  EXPECT_EQ(table.next_deadline(), kNever);
}

TEST_F(Groups, LeavingIsToldTwice) {
  change(Change::join, 1);
  settled();
  change(Change::leave, 1);
  EXPECT_EQ(said_within(2s), (Texts{"TO_IN 232.1.2.3", "TO_IN 232.1.2.3"}));
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(Groups, ASecondMemberIsNoNews) {
  change(Change::join, 1);
  settled();
  change(Change::join, 2);
  change(Change::leave, 1);
  EXPECT_EQ(said_within(5s), Texts{});
}

TEST_F(Groups, TableOfStateChanges) {
  // INCLUDE (A) -> INCLUDE (B): ALLOW (B-A), BLOCK (A-B)
  change(Change::allow, 1, kGroup, source(1));
  EXPECT_EQ(said_within(2s), (Texts{"ALLOW 232.1.2.3 10.1.0.1", "ALLOW 232.1.2.3 10.1.0.1"}));
  change(Change::allow, 1, kGroup, source(2));
  change(Change::disallow, 1, kGroup, source(1));
  EXPECT_EQ(said(), (Texts{"ALLOW 232.1.2.3 10.1.0.2", "BLOCK 232.1.2.3 10.1.0.1"}));
  settled();
  // INCLUDE (A) -> EXCLUDE (B): TO_EX (B)
  change(Change::join, 2);
  change(Change::block, 2, kGroup, source(3));
  EXPECT_EQ(said(), Texts{"TO_EX 232.1.2.3 10.1.0.3"});
  settled();
  // EXCLUDE (A) -> EXCLUDE (B): ALLOW (A-B), BLOCK (B-A)
  change(Change::block, 2, kGroup, source(4));
  change(Change::unblock, 2, kGroup, source(3));
  EXPECT_EQ(said(), (Texts{"ALLOW 232.1.2.3 10.1.0.3", "BLOCK 232.1.2.3 10.1.0.4"}));
  settled();
  // EXCLUDE (A) -> INCLUDE (B): TO_IN (B)
  change(Change::leave, 2);
  EXPECT_EQ(said(), Texts{"TO_IN 232.1.2.3 10.1.0.2"});
}

// A change before the last one was told twice is merged with it.
TEST_F(Groups, PendingChangesAreMerged) {
  change(Change::allow, 1, kGroup, source(1));
  EXPECT_EQ(said(), Texts{"ALLOW 232.1.2.3 10.1.0.1"});
  change(Change::allow, 1, kGroup, source(2));
  EXPECT_EQ(said(), Texts{"ALLOW 232.1.2.3 10.1.0.1 10.1.0.2"});
  EXPECT_EQ(said_within(2s), Texts{"ALLOW 232.1.2.3 10.1.0.2"})
      << "the first was told twice by now";
  change(Change::disallow, 1, kGroup, source(2));
  change(Change::allow, 1, kGroup, source(2));
  EXPECT_EQ(said(), Texts{"ALLOW 232.1.2.3 10.1.0.2"}) << "as it is when it is told";
}

// RFC 3376 3.2, its own example of three sockets.
TEST_F(Groups, InterfaceFilterOfSeveralSockets) {
  change(Change::join, 1);
  for (const uint32_t n : {1U, 2U, 3U}) change(Change::block, 1, kGroup, source(n));
  change(Change::join, 2);
  for (const uint32_t n : {2U, 3U, 4U}) change(Change::block, 2, kGroup, source(n));
  for (const uint32_t n : {3U, 5U, 6U}) change(Change::allow, 3, kGroup, source(n));
  settled();
  query(kGroup, 1s);
  EXPECT_EQ(said_within(1s), Texts{"IS_EX 232.1.2.3 10.1.0.2"});
  change(Change::leave, 1);
  change(Change::leave, 2);
  settled();
  query(kGroup, 1s);
  EXPECT_EQ(said_within(1s), Texts{"IS_IN 232.1.2.3 10.1.0.3 10.1.0.5 10.1.0.6"});
}

TEST_F(Groups, MoreSourcesThanThereIsRoomForLetAllPass) {
  for (uint32_t n = 0; n < kMostGroupSources; ++n) change(Change::allow, 1, kGroup, source(n));
  settled();
  change(Change::allow, 2, kGroup, source(100));
  EXPECT_EQ(said(), Texts{"TO_EX 232.1.2.3"});
  EXPECT_FALSE(table.wants(2, kGroup, 0, source(0), true)) << "the socket's own filter holds";
}

TEST_F(Groups, AllHostsIsNeverReported) {
  EXPECT_EQ(change(Change::join, 1, IpAddress::v4(0xe0000001)), 0);
  for (const char* group : {"ff02::1", "ff01::5", "ff00::5"}) {
    EXPECT_EQ(change(Change::join, 1, *IpAddress::parse(group)), 0) << group;
  }
  query({}, 1s);
  EXPECT_EQ(said_within(5s), Texts{});
}

TEST_F(Groups, AnotherWorkerSpeaks) {
  GroupTable quiet({.memberships = 8, .interfaces = 1, .speaks = false, .seed = 1});
  EXPECT_EQ(quiet.change(Change::join, 1, kGroup, 0, {}, now), 0);
  EXPECT_TRUE(quiet.is_member(kGroup, 0));
  EXPECT_EQ(quiet.next_deadline(), kNever);
  quiet.leave_all(1, now);
  EXPECT_EQ(quiet.size(), 0u);
}

// ---- queries: RFC 3376 5.2 ----

// proves: 1122-31
TEST_F(Groups, GeneralQueryIsAnsweredWithinItsTimeForAllGroups) {
  change(Change::join, 1);
  change(Change::allow, 1, kOther, source(1));
  change(Change::join, 1, kGroup6);
  settled();
  for (int i = 0; i < 20; ++i) {
    query({}, 4s);
    ASSERT_LE(table.next_deadline(), now + 4s);
    EXPECT_EQ(said_within(4s), (Texts{"IS_EX 232.1.2.3", "IS_IN 232.1.2.4 10.1.0.1"}));
  }
}

TEST_F(Groups, AnswersAreSpreadOverTheTimeGiven) {
  change(Change::join, 1);
  settled();
  Duration least = 1h, most{};
  for (int i = 0; i < 50; ++i) {
    query({}, 10s);
    least = std::min(least, Duration(table.next_deadline() - now));
    most = std::max(most, Duration(table.next_deadline() - now));
    (void)said_within(10s);
  }
  EXPECT_LT(least, 2s);
  EXPECT_GT(most, 8s);
}

// Rule 1: a pending answer to a general query that comes sooner answers the others too.
TEST_F(Groups, OneAnswerForSeveralQueries) {
  change(Change::join, 1);
  settled();
  query({}, 0s);
  query(kGroup, 10s);
  query({}, 10s);
  EXPECT_EQ(said_within(11s), Texts{"IS_EX 232.1.2.3"});
}

TEST_F(Groups, QueryAboutAGroupOfNobodyIsNotAnswered) {
  change(Change::join, 1);
  settled();
  query(kOther, 1s);
  EXPECT_EQ(said_within(2s), Texts{});
}

// Rules 3 to 5, and the table of 5.2.
TEST_F(Groups, QueriesAboutSources) {
  change(Change::allow, 1, kGroup, source(1));
  change(Change::allow, 1, kGroup, source(2));
  settled();
  query(kGroup, 1s, {2, 3});
  EXPECT_EQ(said_within(1s), Texts{"IS_IN 232.1.2.3 10.1.0.2"}) << "A * B";
  query(kGroup, 1s, {3});
  EXPECT_EQ(said_within(1s), Texts{}) << "none of them";
  query(kGroup, 1s, {1});
  query(kGroup, 1s, {2});
  EXPECT_EQ(said_within(1s), Texts{"IS_IN 232.1.2.3 10.1.0.1 10.1.0.2"}) << "merged";
  query(kGroup, 1s, {1});
  query(kGroup, 1s);
  EXPECT_EQ(said_within(1s), Texts{"IS_IN 232.1.2.3 10.1.0.1 10.1.0.2"}) << "about all of them";
  change(Change::join, 2);
  change(Change::block, 2, kGroup, source(9));
  settled();
  query(kGroup, 1s, {8, 9});
  EXPECT_EQ(said_within(1s), Texts{"IS_IN 232.1.2.3 10.1.0.8"}) << "B - A";
}

// ---- older versions: RFC 3376 7, RFC 2236 3 ----

TEST_F(Groups, AnOlderQuerierHearsItsOwnVersion) {
  change(Change::join, 1);
  settled();
  query({}, 10s, {}, 2);
  EXPECT_EQ(said_within(10s), Texts{"report2 232.1.2.3"});
  change(Change::join, 1, kOther);
  EXPECT_EQ(said_within(10s), (Texts{"report2 232.1.2.4", "report2 232.1.2.4"}));
  change(Change::leave, 1, kOther);
  EXPECT_EQ(said_within(10s), Texts{"leave2 232.1.2.4"});
  query({}, 10s, {}, 1);
  EXPECT_EQ(said_within(10s), Texts{"report1 232.1.2.3"});
  change(Change::leave, 1);
  EXPECT_EQ(said_within(10s), Texts{}) << "version 1 has no leaving";
}

TEST_F(Groups, AnotherMembersReportIsEnoughForAnOlderQuerier) {
  change(Change::join, 1);
  settled();
  query({}, 10s, {}, 2);
  table.on_old_report(kGroup, 0);
  EXPECT_EQ(said_within(11s), Texts{});
  EXPECT_TRUE(table.is_member(kGroup, 0));
}

TEST_F(Groups, TheOlderQuerierIsForgottenInTime) {
  change(Change::join, 1);
  settled();
  query({}, 1s, {}, 2);
  (void)said_within(2s);
  now += GroupTable::kOldQuerierTimeout;
  query({}, 1s);
  EXPECT_EQ(said_within(1s), Texts{"IS_EX 232.1.2.3"});
}

TEST_F(Groups, ChangingTheVersionForgetsWhatWasPending) {
  change(Change::join, 1);
  query({}, 10s, {}, 2);
  const Texts all = said_within(11s);
  EXPECT_EQ(all, Texts{"report2 232.1.2.3"}) << "no report of version 3 is left over";
}

// ---- MLD ----

// proves: 8504-12
TEST_F(Groups, Ipv6SaysTheSame) {
  EXPECT_EQ(change(Change::join, 1, kGroup6), 0);
  EXPECT_EQ(said_within(2s), (Texts{"TO_EX ff15::77", "TO_EX ff15::77"}));
  wire::GroupQuery q;
  q.version = 1;
  q.is_v6 = true;
  q.max_response = 1s;
  table.on_query(q, true, 0, now);
  EXPECT_EQ(said_within(1s), Texts{"report2 ff15::77"});
  change(Change::join, 2);
  EXPECT_EQ(said(), Texts{"TO_EX 232.1.2.3"}) << "IPv4's querier is another";
  change(Change::leave, 1, kGroup6);
  EXPECT_EQ(said().front(), "leave2 ff15::77");
}

}  // namespace
}  // namespace postern
