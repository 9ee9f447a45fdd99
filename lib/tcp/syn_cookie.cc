#include "tcp/syn_cookie.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace postern {

namespace {

constexpr std::array<uint16_t, 8> kMss{88, 536, 1220, 1360, 1400, 1440, 1460, 8960};
constexpr uint8_t kNoScale = 255;
constexpr std::array<uint8_t, 8> kScale{kNoScale, 0, 2, 4, 6, 7, 8, 10};
constexpr size_t kMaxTuple = 40;

struct Message {
  std::array<std::byte, kMaxTuple> tuple{};
  uint32_t irs = 0;
  uint32_t length = 0;  // of the tuple
};
static_assert(sizeof(Message) == 48);

struct Seal {
  uint64_t connection;
  uint64_t epoch;
  uint64_t options;
};

uint64_t epoch(Time now) {
  return static_cast<uint64_t>(now.time_since_epoch() / (kSynCookieLife / 2));
}

// For one connection attempt: its low byte masks the options, all of it goes into the MAC.
uint64_t connection_hash(const SynCookieKey& key, std::span<const std::byte> tuple, uint32_t irs) {
  Message m;
  m.length = static_cast<uint32_t>(std::min(tuple.size(), kMaxTuple));
  std::memcpy(m.tuple.data(), tuple.data(), m.length);
  m.irs = irs;
  return siphash24(key, std::as_bytes(std::span(&m, 1)));
}

uint32_t cookie(const SynCookieKey& key, uint64_t connection, uint64_t at, uint8_t options) {
  const Seal seal{connection, at, options};
  const auto mac = static_cast<uint32_t>(siphash24(key, std::as_bytes(std::span(&seal, 1))));
  return (mac & 0xffffff00) | static_cast<uint8_t>(options ^ connection);
}

// Index of the largest entry that is not above `value`.
template <class Table>
uint8_t round_down(const Table& table, size_t first, uint32_t value) {
  size_t i = first;
  while (i + 1 < table.size() && table[i + 1] <= value) ++i;
  return static_cast<uint8_t>(i);
}

uint8_t pack(const TcpSegment& syn, uint64_t at) {
  const uint8_t mss = round_down(kMss, 0, syn.has_mss ? syn.mss : 536);
  const uint8_t scale = syn.has_window_scale ? round_down(kScale, 1, syn.window_scale) : uint8_t{0};
  return static_cast<uint8_t>(mss | scale << 3 | (syn.sack_permitted ? 1 : 0) << 6 | (at & 1) << 7);
}

// An independent key for each use.
SynCookieKey derive(const SynCookieKey& key, uint64_t use) {
  const std::array<uint64_t, 2> message[2] = {{use, 0}, {use, 1}};
  return {siphash24(key, std::as_bytes(std::span(message[0]))),
          siphash24(key, std::as_bytes(std::span(message[1])))};
}

}  // namespace

uint32_t encode_syn_cookie(const SynCookieKey& key, std::span<const std::byte> tuple,
                           const TcpSegment& syn, Time now) {
  const uint64_t at = epoch(now);
  return cookie(key, connection_hash(key, tuple, syn.seq), at, pack(syn, at));
}

bool decode_syn_cookie(const SynCookieKey& key, std::span<const std::byte> tuple,
                       const TcpSegment& ack, Time now, TcpSegment* syn) {
  const uint32_t isn = ack.ack - 1;
  const uint64_t connection = connection_hash(key, tuple, ack.seq - 1);
  const auto options = static_cast<uint8_t>(isn ^ connection);
  uint64_t at = epoch(now);
  if ((at & 1) != options >> 7) --at;
  if (cookie(key, connection, at, options) != isn) return false;
  *syn = TcpSegment{};
  syn->flags = tcp_flag::syn;
  syn->seq = ack.seq - 1;
  syn->window = ack.window;
  syn->has_mss = true;
  syn->mss = kMss[options & 7];
  const uint8_t scale = kScale[options >> 3 & 7];
  syn->has_window_scale = scale != kNoScale;
  syn->window_scale = syn->has_window_scale ? scale : uint8_t{0};
  syn->sack_permitted = (options >> 6 & 1) != 0;
  syn->has_timestamps = ack.has_timestamps;
  syn->ts_value = ack.ts_value;
  return true;
}

SynCookieSecret::SynCookieSecret(const SynCookieKey& seed) noexcept
    : chain_(derive(seed, 0)), current_(derive(seed, 1)), previous_(current_) {}

void SynCookieSecret::rotate(Time now) noexcept {
  if (now - since_ < kLife) return;
  previous_ = current_;
  current_ = derive(chain_, 1);
  chain_ = derive(chain_, 0);
  since_ = now;
}

uint32_t SynCookieSecret::encode(std::span<const std::byte> tuple, const TcpSegment& syn,
                                 Time now) noexcept {
  rotate(now);
  return encode_syn_cookie(current_, tuple, syn, now);
}

bool SynCookieSecret::decode(std::span<const std::byte> tuple, const TcpSegment& ack, Time now,
                             TcpSegment* syn) noexcept {
  if (decode_syn_cookie(current_, tuple, ack, now, syn)) return true;
  return now - since_ < kSynCookieLife && decode_syn_cookie(previous_, tuple, ack, now, syn);
}

}  // namespace postern
