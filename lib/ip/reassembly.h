// Fragments into packets, both families: RFC 791 3.2, RFC 8200 4.5, RFC 5722. Pure.
//
// A packet in the making keeps its bytes in pages of a fixed pool, each at its own place, and knows
// which ranges it has. What contradicts what is there ends it: overlaps (RFC 5722, for IPv4 too),
// two different ends, data behind the end. A fragment that says again what is known is dropped by
// itself.
//
// Bounded: pages in all, pages and packets of one source, ranges of one packet. A source that wants
// more loses its own oldest packet; when all pages are taken, the oldest of all goes: whoever
// floods must turn over the whole pool within the time that an honest packet needs to be complete.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/drop.h"
#include "base/hash.h"
#include "base/time.h"
#include "wire/fragment.h"
#include "wire/packet.h"

namespace postern {

struct ReassemblyOptions {
  uint32_t memory = 4 << 20;              // bytes of data kept in all
  uint32_t memory_of_source = 512 << 10;  // of these, for one source
  Duration timeout4 = 30s;                // RFC 791's is 15 s, RFC 1122 3.3.2's 60; Linux's 30
  Duration timeout6 = 60s;                // RFC 8200 4.5
  HashSecret secret{};
};

class Reassembler {
 public:
  static constexpr uint32_t kLinkRoom = 18;  // bytes free in front of a whole packet

  explicit Reassembler(const ReassemblyOptions& options);

  // Takes a fragment. Drop::none: it is kept, and if it was the last one missing, *whole is the IP
  // packet without a trace of fragments, valid until the next call, with kLinkRoom bytes before it.
  Drop add(const ParsedPacket& parsed, const wire::Fragment& fragment, Time now,
           std::span<std::byte>* whole) noexcept;

  // A packet whose time is up. With `quote`, its first fragment had come: its sender is to be told
  // (RFC 792, RFC 4443 3.3).
  struct Expired {
    IpAddress source;
    IpAddress destination;
    uint16_t interface = 0;
    uint32_t fragments = 0;            // that are lost with it
    std::span<const std::byte> quote;  // from the IP header; valid until the next call
  };
  [[nodiscard]] bool next_expired(Time now, Expired* out) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept { return deadline_; }

  // Fragments that were kept and had to give way, since the last call.
  [[nodiscard]] uint32_t take_displaced() noexcept;
  [[nodiscard]] uint32_t pages_used() const noexcept { return pages_used_; }
  [[nodiscard]] uint32_t packets() const noexcept { return packets_used_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kPage = 2048;
  static constexpr uint32_t kPages = 65536 / kPage;  // of the largest packet
  static constexpr uint32_t kRanges = 32;            // gaps that reordering makes, and a reserve
  static constexpr uint32_t kPacketsOfSource = 64;
  static constexpr uint32_t kKeptHeader = 96;  // longer headers are not quoted

  struct Range {
    uint32_t left = 0;
    uint32_t right = 0;
  };
  struct Packet {
    IpAddress source;
    IpAddress destination;
    uint32_t id = 0;
    uint8_t protocol = 0;  // IPv4: part of the key; IPv6: the first fragment's
    bool is_v6 = false;
    bool has_first = false;
    bool condemned = false;  // contradicted: what still comes of it is dropped
    uint8_t ecn_seen = 0;    // bit 1 << codepoint
    uint16_t interface = 0;
    uint32_t header_length = 0;  // of the first fragment
    uint32_t first_length = 0;   // data of the first fragment
    uint32_t end = kNone;        // of all data, known from the last fragment
    uint32_t fragments = 0;
    uint32_t range_count = 0;
    uint32_t page_count = 0;
    uint32_t next = kNone;  // of the same bucket, or free
    uint32_t older = kNone;
    uint32_t newer = kNone;
    Time deadline{};
    std::array<Range, kRanges> ranges;
    std::array<uint32_t, kPages> pages;
    std::array<std::byte, kKeptHeader> header;
  };
  // By age; within a family by deadline too.
  struct Queue {
    uint32_t oldest = kNone;
    uint32_t newest = kNone;
  };
  struct Share {  // of one source
    uint32_t packets = 0;
    uint32_t pages = 0;
    uint32_t oldest = kNone;  // but for the one asked about
  };

  [[nodiscard]] uint32_t find(const ParsedPacket& parsed, uint32_t id) const noexcept;
  [[nodiscard]] Share share_of(const IpAddress& source, uint32_t except) const noexcept;
  [[nodiscard]] uint32_t create(const ParsedPacket& parsed, uint32_t id, Time now) noexcept;
  void erase(uint32_t index) noexcept;
  void find_deadline() noexcept;
  void displace(uint32_t index) noexcept;
  void free_pages(Packet& packet) noexcept;
  Drop condemn(Packet& packet, Drop drop) noexcept;
  [[nodiscard]] Drop judge(const Packet& packet, const wire::Fragment& f) const noexcept;
  [[nodiscard]] bool says_again(const Packet& packet, const wire::Fragment& f) const noexcept;
  [[nodiscard]] static uint32_t position_of(const Packet& packet, uint32_t left) noexcept;
  [[nodiscard]] static bool insert(Packet& packet, Range range) noexcept;
  [[nodiscard]] bool take_pages(uint32_t index, Range range) noexcept;
  [[nodiscard]] bool take_page(uint32_t index, uint32_t* page) noexcept;
  [[nodiscard]] uint32_t oldest_but(uint32_t keep) const noexcept;
  void store(Packet& packet, const ParsedPacket& parsed, const wire::Fragment& f) noexcept;
  Drop finish(uint32_t index, std::span<std::byte>* whole) noexcept;
  void copy_out(const Packet& packet, std::byte* to, uint32_t length) const noexcept;
  [[nodiscard]] Duration timeout_of(const Packet& packet) const noexcept {
    return packet.is_v6 ? options_.timeout6 : options_.timeout4;
  }
  [[nodiscard]] uint32_t bucket_of(const IpAddress& source) const noexcept {
    return static_cast<uint32_t>(hash_(source) & (buckets_.size() - 1));
  }
  [[nodiscard]] std::byte* page_at(uint32_t page) const noexcept {
    return memory_.get() + size_t{page} * kPage;
  }

  ReassemblyOptions options_;
  KeyedHash hash_;
  uint32_t pages_of_source_;
  std::unique_ptr<std::byte[]> memory_;
  std::vector<uint32_t> free_pages_;
  std::vector<Packet> packets_;
  std::vector<uint32_t> buckets_;
  std::array<Queue, 2> queues_;  // IPv4, IPv6
  Time deadline_ = kNever;
  uint32_t free_packet_ = kNone;
  uint32_t packets_used_ = 0;
  uint32_t pages_used_ = 0;
  uint32_t displaced_ = 0;
  std::unique_ptr<std::byte[]> whole_;
};

}  // namespace postern
