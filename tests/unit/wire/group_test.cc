// Messages about group membership on the wire: RFC 3376 4, RFC 3810 5, RFC 2236 2, RFC 2710 3.
#include "wire/group.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/checksum.h"
#include "frames.h"

namespace postern::wire {
namespace {

const IpAddress kGroup = address("239.1.2.3");
const IpAddress kGroup6 = address("ff15::77");
const IpAddress kRouter6 = address("fe80::1");

struct Read {
  Drop drop = Drop::none;
  GroupMessage kind = GroupMessage::other;
  GroupQuery query;
  IpAddress group;
};

Read read(const TestFrame& frame) {
  Read r;
  const ParsedPacket parsed = frame.parse();
  EXPECT_EQ(parsed.drop, Drop::none);
  r.drop = read_group_message(frame.packet(), parsed, &r.kind, &r.query, &r.group);
  return r;
}

std::vector<std::byte> bytes(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (const int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

TestFrame igmp(std::vector<std::byte> message, bool right_sum = true) {
  const be16 sum = checksum_finish(checksum_add(message));
  std::memcpy(message.data() + 2, &sum, sizeof sum);
  if (!right_sum) message[2] ^= std::byte{1};
  return ip_frame({.source = peer_address(false),
                   .destination = address("224.0.0.1"),
                   .protocol = kIgmpProtocol,
                   .ttl = 1,
                   .payload_length = static_cast<uint32_t>(message.size())},
                  message);
}

TestFrame igmp_query(int code, std::initializer_list<int> tail = {}) {
  auto message = bytes({0x11, code, 0, 0, 239, 1, 2, 3});
  for (const int v : tail) message.push_back(static_cast<std::byte>(v));
  return igmp(message);
}

// Behind a hop-by-hop header of 8 bytes that begins with `option`.
TestFrame mld(std::vector<std::byte> message, const IpAddress& source = kRouter6, uint8_t ttl = 1,
              uint8_t option = 5) {
  const IpAddress to = address("ff02::1");
  const uint32_t sum = pseudo_header_sum(source, to, 58, static_cast<uint32_t>(message.size()));
  const be16 checksum = checksum_finish(checksum_add(message, sum));
  std::memcpy(message.data() + 2, &checksum, sizeof checksum);
  auto all = bytes({58, 0, option, 2, 0, 0, 1, 0});
  all.insert(all.end(), message.begin(), message.end());
  return ip_frame({.source = source,
                   .destination = to,
                   .protocol = 0,
                   .ttl = ttl,
                   .payload_length = static_cast<uint32_t>(all.size())},
                  all);
}

std::vector<std::byte> mld_query(int delay, std::initializer_list<int> tail = {}) {
  auto message = bytes({130, 0, 0, 0, delay >> 8, delay & 0xff, 0, 0});
  message.insert(message.end(), reinterpret_cast<const std::byte*>(kGroup6.data()),
                 reinterpret_cast<const std::byte*>(kGroup6.data()) + 16);
  for (const int v : tail) message.push_back(static_cast<std::byte>(v));
  return message;
}

// ---- IGMP ----

// RFC 3376 7.1: length and code tell the version.
TEST(GroupMessages, VersionsOfIgmpQueries) {
  Read r = read(igmp_query(0));
  EXPECT_EQ(r.query.version, 1);
  EXPECT_EQ(r.query.max_response, 10s);
  r = read(igmp_query(25));
  EXPECT_EQ(r.query.version, 2);
  EXPECT_EQ(r.query.max_response, 2500ms);
  r = read(igmp_query(25, {2, 125, 0, 0}));
  EXPECT_EQ(r.query.version, 3);
  EXPECT_EQ(r.query.group, kGroup);
  EXPECT_EQ(r.kind, GroupMessage::query);
}

// RFC 3376 4.1.1: a floating-point value from 128 on.
TEST(GroupMessages, LongResponseTimes) {
  EXPECT_EQ(read(igmp_query(127, {2, 125, 0, 0})).query.max_response, 12700ms);
  EXPECT_EQ(read(igmp_query(0x80, {2, 125, 0, 0})).query.max_response, 12800ms);
  EXPECT_EQ(read(igmp_query(0xff, {2, 125, 0, 0})).query.max_response, 3174400ms);
  EXPECT_EQ(read(mld(mld_query(32767, {2, 125, 0, 0}))).query.max_response, 32767ms);
  EXPECT_EQ(read(mld(mld_query(0x8000, {2, 125, 0, 0}))).query.max_response, 32768ms);
  EXPECT_EQ(read(mld(mld_query(0xffff, {2, 125, 0, 0}))).query.max_response, 8387584ms);
}

TEST(GroupMessages, SourcesOfAQuery) {
  Read r = read(igmp_query(10, {2, 125, 0, 2, 10, 0, 0, 1, 10, 0, 0, 2}));
  ASSERT_EQ(r.drop, Drop::none);
  ASSERT_EQ(r.query.source_count, 2u);
  EXPECT_EQ(r.query.source(1), address("10.0.0.2"));
  EXPECT_EQ(read(igmp_query(10, {2, 125, 0, 3, 10, 0, 0, 1, 10, 0, 0, 2})).drop,
            Drop::group_malformed)
      << "fewer than it says";
  EXPECT_EQ(read(igmp_query(10, {2, 125, 255, 255, 10, 0, 0, 1})).drop, Drop::group_malformed);
  EXPECT_EQ(read(igmp_query(10, {2, 125})).drop, Drop::group_malformed) << "between two versions";
}

TEST(GroupMessages, WrongOnes) {
  EXPECT_EQ(read(igmp(bytes({0x11, 0, 0, 0}))).drop, Drop::group_malformed);
  EXPECT_EQ(read(igmp(bytes({0x11, 5, 0, 0, 10, 0, 0, 1}))).drop, Drop::group_malformed)
      << "a group that is none";
  EXPECT_EQ(read(igmp(bytes({0x11, 5, 0, 0, 0, 0, 0, 0}), false)).drop, Drop::group_malformed);
  EXPECT_EQ(read(igmp(bytes({0x11, 5, 0, 0, 0, 0, 0, 0, 2, 125, 0, 1, 10, 0, 0, 1}))).drop,
            Drop::group_malformed)
      << "sources of no group";
  EXPECT_EQ(read(igmp(bytes({0x16, 0, 0, 0, 10, 0, 0, 1}))).drop, Drop::group_malformed);
}

TEST(GroupMessages, WhatOtherMembersSay) {
  for (const int type : {0x12, 0x16}) {
    const Read r = read(igmp(bytes({type, 0, 0, 0, 239, 1, 2, 3})));
    EXPECT_EQ(r.kind, GroupMessage::old_report);
    EXPECT_EQ(r.group, kGroup);
  }
  for (const int type : {0x17, 0x22, 0x99}) {  // RFC 3376 4: of unknown types nothing is made
    EXPECT_EQ(read(igmp(bytes({type, 0, 0, 0, 239, 1, 2, 3}))).kind, GroupMessage::other);
  }
}

// ---- MLD ----

TEST(GroupMessages, VersionsOfMldQueries) {
  Read r = read(mld(mld_query(1000)));
  EXPECT_EQ(r.drop, Drop::none);
  EXPECT_EQ(r.query.version, 1);
  EXPECT_EQ(r.query.max_response, 1s);
  r = read(mld(mld_query(1000, {2, 125, 0, 0})));
  EXPECT_EQ(r.query.version, 2);
  EXPECT_EQ(r.query.group, kGroup6);
  EXPECT_TRUE(r.query.is_v6);
  EXPECT_EQ(read(mld(mld_query(1000, {2, 125, 0, 1}))).drop, Drop::group_malformed);
}

// RFC 3810 6.2: from the link, for certain.
TEST(GroupMessages, MldFromBeyondTheLink) {
  EXPECT_EQ(read(mld(mld_query(1), kRouter6, 2)).drop, Drop::group_bad_origin);
  EXPECT_EQ(read(mld(mld_query(1), address("2001:db8::1"))).drop, Drop::group_bad_origin);
  EXPECT_EQ(read(mld(mld_query(1), kRouter6, 1, 4)).drop, Drop::group_bad_origin)
      << "no router alert";
  EXPECT_EQ(read(mld(mld_query(1), IpAddress{})).drop, Drop::group_bad_origin)
      << "only reports may come from nobody";
}

// ---- written ----

TestFrame framed(std::span<const std::byte> packet, bool v6) {
  TestFrame frame;
  frame.bytes.resize(14 + packet.size());
  write_ethernet(frame.bytes.data(), kPeerMac, kOurMac, v6 ? ether_type::ipv6 : ether_type::ipv4);
  std::memcpy(frame.bytes.data() + 14, packet.data(), packet.size());
  return frame;
}

TEST(GroupReports, Version3OfIgmp) {
  std::array<std::byte, 1500> room;
  GroupReportWriter w(room, our_address(false));
  EXPECT_TRUE(w.empty());
  const IpAddress sources[] = {address("10.0.0.1"), address("10.0.0.2")};
  EXPECT_TRUE(w.add(GroupRecordType::to_exclude, kGroup, {}));
  EXPECT_TRUE(w.add(GroupRecordType::allow, kGroup, sources));
  const size_t length = w.finish();
  ASSERT_EQ(length, 24u + 8 + 8 + 16);
  const TestFrame frame = framed({room.data(), length}, false);
  const ParsedPacket p = frame.parse();  // its checksums are judged here
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.destination, address("224.0.0.22"));
  EXPECT_EQ(p.ttl, 1);
  EXPECT_EQ(p.tos, 0xc0);
  EXPECT_EQ(frame.get(14 + 20), 0x94) << "router alert";
  EXPECT_TRUE(checksum_is_good(checksum_add({room.data() + 24, length - 24})));
  EXPECT_EQ(frame.get(14 + 24), 0x22);
  EXPECT_EQ(frame.get(14 + 24 + 7), 2) << "records";
  EXPECT_EQ(frame.get(14 + 24 + 8), 4) << "TO_EX";
  EXPECT_EQ(frame.get(14 + 24 + 16), 5) << "ALLOW";
  EXPECT_EQ(frame.get(14 + 24 + 16 + 3), 2) << "sources";
}

TEST(GroupReports, Version2OfMldFromNobodyYet) {
  std::array<std::byte, 1280> room;
  GroupReportWriter w(room, IpAddress{});
  EXPECT_TRUE(w.add(GroupRecordType::is_include, kGroup6, std::span(&kRouter6, 1)));
  const size_t length = w.finish();
  ASSERT_EQ(length, 48u + 8 + 20 + 16);
  const ParsedPacket p = framed({room.data(), length}, true).parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::icmp);
  EXPECT_EQ(p.source_port >> 8, icmp6::listener_report2);
  EXPECT_EQ(p.destination, address("ff02::16"));
  EXPECT_EQ(p.ttl, 1);
}

// RFC 3376 4.2.16: what does not fit goes into another report.
TEST(GroupReports, AFullOneTakesNoMore) {
  std::array<std::byte, 24 + 8 + 8 + 8 + 4> room;
  std::array<IpAddress, 5> sources;
  for (size_t i = 0; i < sources.size(); ++i) sources[i] = IpAddress::v4(0x0a000000U + i);
  GroupReportWriter w(room, our_address(false));
  EXPECT_TRUE(w.add(GroupRecordType::is_exclude, kGroup, {}));
  EXPECT_FALSE(w.add(GroupRecordType::is_include, kGroup, sources));
  EXPECT_TRUE(w.add(GroupRecordType::is_include, kGroup, std::span(sources).first(1)));
  EXPECT_FALSE(w.add(GroupRecordType::is_exclude, kGroup, {}));
  EXPECT_EQ(w.finish(), room.size());
}

TEST(GroupReports, OlderVersions) {
  std::array<std::byte, 128> room;
  struct Row {
    OldGroupMessage kind;
    bool v6;
    int type;
    const char* destination;
  };
  for (const Row& row : {Row{OldGroupMessage::report1, false, 0x12, "239.1.2.3"},
                         Row{OldGroupMessage::report2, false, 0x16, "239.1.2.3"},
                         Row{OldGroupMessage::leave2, false, 0x17, "224.0.0.2"},
                         Row{OldGroupMessage::report2, true, 131, "ff15::77"},
                         Row{OldGroupMessage::leave2, true, 132, "ff02::2"}}) {
    IpAddress destination;
    const IpAddress& group = row.v6 ? kGroup6 : kGroup;
    const IpAddress source = row.v6 ? kRouter6 : our_address(false);
    const size_t length = write_old_group_message(room, row.kind, source, group, &destination);
    EXPECT_EQ(destination, address(row.destination));
    const TestFrame frame = framed({room.data(), length}, row.v6);
    EXPECT_EQ(frame.parse().drop, Drop::none);
    EXPECT_EQ(frame.parse().destination, destination);
    EXPECT_EQ(frame.get(14 + (row.v6 ? 48 : 24)), row.type);
    if (row.kind == OldGroupMessage::leave2 || row.kind == OldGroupMessage::report1) continue;
    const Read r = read(frame);
    EXPECT_EQ(r.drop, Drop::none);
    EXPECT_EQ(r.kind, GroupMessage::old_report);
    EXPECT_EQ(r.group, group);
  }
}

}  // namespace
}  // namespace postern::wire
