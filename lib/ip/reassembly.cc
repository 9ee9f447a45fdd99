#include "ip/reassembly.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/checksum.h"

namespace postern {
namespace {

constexpr uint32_t kLargest = 65535;
constexpr uint32_t kLargestHeader = 60;
constexpr uint32_t kLongestQuote = 1280;

constexpr uint8_t kNotEct = 1 << 0;  // bits of ecn_seen
constexpr uint8_t kCe = 1 << 3;

// RFC 1858, RFC 3128: a first fragment that leaves part of the transport header to another one, or
// a second one that begins within it, is nobody's need.
bool too_small(const ParsedPacket& p, const wire::Fragment& f) {
  if (f.data.empty()) return true;
  const bool tcp = p.protocol == static_cast<uint8_t>(Protocol::tcp);
  const size_t header = tcp ? sizeof(wire::TcpHeader) : sizeof(wire::UdpHeader);
  return f.offset == 0 ? f.data.size() < header : tcp && f.offset < header;
}

}  // namespace

Reassembler::Reassembler(const ReassemblyOptions& options)
    : options_(options), hash_(options.secret) {
  const uint32_t pages = std::max(options.memory / kPage, kPages);
  pages_of_source_ = std::clamp(options.memory_of_source / kPage, kPages, pages);
  memory_ = std::make_unique_for_overwrite<std::byte[]>(size_t{pages} * kPage);
  free_pages_.resize(pages);
  for (uint32_t i = 0; i < pages; ++i) free_pages_[i] = pages - 1 - i;
  packets_.resize(std::max(pages / 4, kPacketsOfSource));
  for (auto i = static_cast<uint32_t>(packets_.size()); i-- > 0;) {
    packets_[i].next = free_packet_;
    free_packet_ = i;
  }
  buckets_.assign(std::bit_ceil(packets_.size() * 2), kNone);
  whole_ = std::make_unique_for_overwrite<std::byte[]>(kLinkRoom + kLargestHeader + kLargest);
}

Drop Reassembler::add(const ParsedPacket& parsed, const wire::Fragment& f, Time now,
                      std::span<std::byte>* whole) noexcept {
  *whole = {};
  if (too_small(parsed, f)) return Drop::ip_fragment_tiny;
  const size_t header = parsed.is_v6 ? 0 : f.header.size();  // IPv4's total length counts it
  if (header + f.offset + f.data.size() > kLargest) return Drop::ip_fragment_too_long;
  uint32_t index = find(parsed, f.id);
  if (index == kNone) index = create(parsed, f.id, now);
  Packet& packet = packets_[index];
  if (packet.condemned) return Drop::ip_fragment_overlap;
  if (const Drop drop = judge(packet, f); drop != Drop::none) {
    return drop == Drop::ip_fragment_duplicate ? drop : condemn(packet, drop);
  }
  const Range range{f.offset, f.offset + static_cast<uint32_t>(f.data.size())};
  if (!take_pages(index, range) || !insert(packet, range)) return Drop::ip_fragment_memory;
  store(packet, parsed, f);
  const bool complete = packet.end != kNone && packet.range_count == 1 &&
                        packet.ranges[0].left == 0 && packet.ranges[0].right == packet.end;
  return complete ? finish(index, whole) : Drop::none;
}

// ---- packets ----

uint32_t Reassembler::find(const ParsedPacket& parsed, uint32_t id) const noexcept {
  for (uint32_t i = buckets_[bucket_of(parsed.source)]; i != kNone; i = packets_[i].next) {
    const Packet& p = packets_[i];
    if (p.id == id && p.is_v6 == parsed.is_v6 && p.source == parsed.source &&
        p.destination == parsed.destination && (p.is_v6 || p.protocol == parsed.protocol)) {
      return i;
    }
  }
  return kNone;
}

// A source has few packets, all in one bucket.
Reassembler::Share Reassembler::share_of(const IpAddress& source, uint32_t except) const noexcept {
  Share share;
  for (uint32_t i = buckets_[bucket_of(source)]; i != kNone; i = packets_[i].next) {
    const Packet& p = packets_[i];
    if (p.source != source) continue;
    ++share.packets;
    share.pages += p.page_count;
    if (i != except) share.oldest = i;  // new ones stand first
  }
  return share;
}

uint32_t Reassembler::create(const ParsedPacket& parsed, uint32_t id, Time now) noexcept {
  if (const Share share = share_of(parsed.source, kNone); share.packets >= kPacketsOfSource) {
    displace(share.oldest);
  }
  if (free_packet_ == kNone) displace(oldest_but(kNone));
  const uint32_t index = free_packet_;
  Packet& p = packets_[index];
  free_packet_ = p.next;
  p = Packet{};
  p.pages.fill(kNone);
  p.source = parsed.source;
  p.destination = parsed.destination;
  p.id = id;
  p.protocol = parsed.protocol;
  p.is_v6 = parsed.is_v6;
  p.interface = parsed.interface;
  p.deadline = now + timeout_of(p);
  uint32_t& bucket = buckets_[bucket_of(p.source)];
  p.next = bucket;
  bucket = index;
  Queue& queue = queues_[p.is_v6 ? 1 : 0];
  p.older = queue.newest;
  (queue.newest == kNone ? queue.oldest : packets_[queue.newest].newer) = index;
  queue.newest = index;
  ++packets_used_;
  find_deadline();
  return index;
}

void Reassembler::erase(uint32_t index) noexcept {
  Packet& p = packets_[index];
  free_pages(p);
  uint32_t* link = &buckets_[bucket_of(p.source)];
  while (*link != index) link = &packets_[*link].next;
  *link = p.next;
  Queue& queue = queues_[p.is_v6 ? 1 : 0];
  (p.older == kNone ? queue.oldest : packets_[p.older].newer) = p.newer;
  (p.newer == kNone ? queue.newest : packets_[p.newer].older) = p.older;
  p.next = free_packet_;
  free_packet_ = index;
  --packets_used_;
  find_deadline();
}

void Reassembler::displace(uint32_t index) noexcept {
  displaced_ += packets_[index].fragments;
  erase(index);
}

void Reassembler::free_pages(Packet& packet) noexcept {
  for (uint32_t& page : packet.pages) {
    if (page == kNone) continue;
    free_pages_.push_back(page);
    page = kNone;
    --pages_used_;
  }
  packet.page_count = 0;
}

// RFC 5722 4: nothing of it is used, nor what is still to come.
Drop Reassembler::condemn(Packet& packet, Drop drop) noexcept {
  displaced_ += packet.fragments;
  packet.fragments = 0;
  packet.condemned = true;
  free_pages(packet);
  return drop;
}

uint32_t Reassembler::take_displaced() noexcept { return std::exchange(displaced_, 0); }

// ---- one fragment ----

// How many ranges begin before `left`.
uint32_t Reassembler::position_of(const Packet& packet, uint32_t left) noexcept {
  const auto* const begin = packet.ranges.data();
  const auto* const at =
      std::lower_bound(begin, begin + packet.range_count, left,
                       [](const Range& range, uint32_t value) { return range.left < value; });
  return static_cast<uint32_t>(at - begin);
}

Drop Reassembler::judge(const Packet& packet, const wire::Fragment& f) const noexcept {
  const uint32_t left = f.offset;
  const uint32_t right = f.offset + static_cast<uint32_t>(f.data.size());
  if (packet.end != kNone && (f.more ? right > packet.end : right != packet.end)) {
    return Drop::ip_fragment_overlap;
  }
  const uint32_t at = position_of(packet, left);
  const Range* const before = at > 0 ? &packet.ranges[at - 1] : nullptr;
  const Range* const behind = at < packet.range_count ? &packet.ranges[at] : nullptr;
  if (!f.more && packet.range_count > 0 && packet.ranges[packet.range_count - 1].right > right) {
    return Drop::ip_fragment_overlap;
  }
  const bool overlap =
      (before != nullptr && before->right > left) || (behind != nullptr && behind->left < right);
  if (!overlap) return Drop::none;
  const bool within = (before != nullptr && before->right >= right) ||
                      (behind != nullptr && behind->left == left && behind->right >= right);
  return within && says_again(packet, f) ? Drop::ip_fragment_duplicate : Drop::ip_fragment_overlap;
}

// RFC 8200 4.5 allows exact duplicates: the same bytes at the same place tell nothing new.
bool Reassembler::says_again(const Packet& packet, const wire::Fragment& f) const noexcept {
  for (size_t done = 0; done < f.data.size();) {
    const size_t at = f.offset + done;
    const size_t n = std::min<size_t>(f.data.size() - done, kPage - at % kPage);
    const std::byte* const kept = page_at(packet.pages[at / kPage]) + at % kPage;
    if (std::memcmp(kept, f.data.data() + done, n) != 0) return false;
    done += n;
  }
  return true;
}

// The range touches none but at its ends. False: too many gaps.
bool Reassembler::insert(Packet& packet, Range range) noexcept {
  auto& ranges = packet.ranges;
  const uint32_t at = position_of(packet, range.left);
  const bool joins_before = at > 0 && ranges[at - 1].right == range.left;
  const bool joins_behind = at < packet.range_count && ranges[at].left == range.right;
  if (joins_before && joins_behind) {
    ranges[at - 1].right = ranges[at].right;
    std::copy(ranges.begin() + at + 1, ranges.begin() + packet.range_count, ranges.begin() + at);
    --packet.range_count;
  } else if (joins_before) {
    ranges[at - 1].right = range.right;
  } else if (joins_behind) {
    ranges[at].left = range.left;
  } else {
    if (packet.range_count == kRanges) return false;
    std::copy_backward(ranges.begin() + at, ranges.begin() + packet.range_count,
                       ranges.begin() + packet.range_count + 1);
    ranges[at] = range;
    ++packet.range_count;
  }
  return true;
}

void Reassembler::store(Packet& packet, const ParsedPacket& parsed,
                        const wire::Fragment& f) noexcept {
  for (size_t done = 0; done < f.data.size();) {
    const size_t at = f.offset + done;
    const size_t n = std::min<size_t>(f.data.size() - done, kPage - at % kPage);
    std::memcpy(page_at(packet.pages[at / kPage]) + at % kPage, f.data.data() + done, n);
    done += n;
  }
  ++packet.fragments;
  packet.ecn_seen = static_cast<uint8_t>(packet.ecn_seen | 1U << (parsed.tos & 3U));
  if (!f.more) packet.end = f.offset + static_cast<uint32_t>(f.data.size());
  if (f.offset != 0) return;
  packet.has_first = true;
  packet.protocol = parsed.protocol;
  packet.header_length = static_cast<uint32_t>(f.header.size());
  packet.first_length = static_cast<uint32_t>(f.data.size());
  std::memcpy(packet.header.data(), f.header.data(),
              std::min<size_t>(f.header.size(), packet.header.size()));
}

// ---- pages ----

bool Reassembler::take_pages(uint32_t index, Range range) noexcept {
  for (uint32_t i = range.left / kPage; i <= (range.right - 1) / kPage; ++i) {
    uint32_t page;
    if (packets_[index].pages[i] != kNone) continue;
    if (!take_page(index, &page)) return false;
    packets_[index].pages[i] = page;
    ++packets_[index].page_count;
  }
  return true;
}

bool Reassembler::take_page(uint32_t index, uint32_t* page) noexcept {
  const Share share = share_of(packets_[index].source, index);
  if (share.pages >= pages_of_source_ && share.oldest != kNone) displace(share.oldest);
  while (free_pages_.empty()) {
    const uint32_t old = oldest_but(index);
    if (old == kNone) return false;
    displace(old);
  }
  *page = free_pages_.back();
  free_pages_.pop_back();
  ++pages_used_;
  return true;
}

uint32_t Reassembler::oldest_but(uint32_t keep) const noexcept {
  uint32_t oldest = kNone;
  for (const Queue& queue : queues_) {
    uint32_t i = queue.oldest;
    if (i == keep && i != kNone) i = packets_[i].newer;
    if (i == kNone) continue;
    const auto born = [&](uint32_t p) { return packets_[p].deadline - timeout_of(packets_[p]); };
    if (oldest == kNone || born(i) < born(oldest)) oldest = i;
  }
  return oldest;
}

// ---- the end ----

void Reassembler::copy_out(const Packet& packet, std::byte* to, uint32_t length) const noexcept {
  for (uint32_t at = 0; at < length; at += kPage) {
    std::memcpy(to + at, page_at(packet.pages[at / kPage]), std::min(kPage, length - at));
  }
}

// A header as if the packet had come whole; IPv6 without extension headers in front of where the
// fragment header stood: they were judged when they came.
Drop Reassembler::finish(uint32_t index, std::span<std::byte>* whole) noexcept {
  Packet& packet = packets_[index];
  // RFC 3168 5.3: congestion that any fragment met is told, unless some could not have met it.
  const bool congested = (packet.ecn_seen & kCe) != 0;
  if (congested && (packet.ecn_seen & kNotEct) != 0) return condemn(packet, Drop::ip_fragment_ecn);
  std::byte* const start = whole_.get() + kLinkRoom;
  uint32_t header = 40;
  if (packet.is_v6) {
    std::memcpy(start, packet.header.data(), header);
    auto& ip = *reinterpret_cast<wire::Ipv6Header*>(start);
    ip.payload_length = static_cast<uint16_t>(packet.end);
    ip.next_header = packet.protocol;
    if (congested) ip.version_class_flow = ip.version_class_flow.host() | 3U << 20;
  } else {
    header = packet.header_length;
    std::memcpy(start, packet.header.data(), header);
    auto& ip = *reinterpret_cast<wire::Ipv4Header*>(start);
    if (header + packet.end > kLargest) return condemn(packet, Drop::ip_fragment_too_long);
    ip.total_length = static_cast<uint16_t>(header + packet.end);
    ip.flags_fragment = uint16_t{0};
    if (congested) ip.tos |= 3;
    ip.checksum = uint16_t{0};
    ip.checksum = checksum_finish(checksum_add({start, header}));
  }
  copy_out(packet, start + header, packet.end);
  *whole = {start, header + packet.end};
  erase(index);
  return Drop::none;
}

void Reassembler::find_deadline() noexcept {
  deadline_ = kNever;
  for (const Queue& queue : queues_) {
    if (queue.oldest != kNone) deadline_ = std::min(deadline_, packets_[queue.oldest].deadline);
  }
}

bool Reassembler::next_expired(Time now, Expired* out) noexcept {
  for (const Queue& queue : queues_) {
    const uint32_t index = queue.oldest;
    if (index == kNone || packets_[index].deadline > now) continue;
    const Packet& p = packets_[index];
    *out = {p.source, p.destination, p.interface, p.fragments, {}};
    if (p.has_first && !p.condemned && p.header_length <= kKeptHeader) {
      const uint32_t data = std::min(p.first_length, kLongestQuote);
      std::memcpy(whole_.get(), p.header.data(), p.header_length);
      copy_out(p, whole_.get() + p.header_length, data);
      out->quote = {whole_.get(), p.header_length + data};
    }
    erase(index);
    return true;
  }
  return false;
}

}  // namespace postern
