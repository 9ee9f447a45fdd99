// TCP options: RFC 9293 3.1, RFC 7323, RFC 2018.
#include <algorithm>
#include <cstring>

#include "wire/cursor.h"
#include "wire/headers.h"
#include "wire/parse.h"

namespace postern::wire {

namespace {

struct TimestampOption {
  uint8_t kind;
  uint8_t length;
  be32 value;
  be32 echo;
};
static_assert(sizeof(TimestampOption) == 10);

struct SackOption {
  be32 left;
  be32 right;
};

constexpr uint8_t kMaxWindowScale = 14;  // RFC 7323 2.3

// The layout that nearly every segment of an established connection has: two no-operations, then
// timestamps (RFC 7323 appendix A).
bool take_aligned_timestamps(const std::byte* options, size_t length, TcpSegment* segment) {
  if (length != 12) return false;
  be32 head;
  std::memcpy(&head, options, 4);
  constexpr be32 kExpected{uint32_t{tcp_option::no_operation} << 24 |
                           uint32_t{tcp_option::no_operation} << 16 |
                           uint32_t{tcp_option::timestamps} << 8 | sizeof(TimestampOption)};
  if (head != kExpected) return false;
  const auto* const option = reinterpret_cast<const TimestampOption*>(options + 2);
  segment->has_timestamps = true;
  segment->ts_value = option->value.host();
  segment->ts_echo = option->echo.host();
  return true;
}

// Bodies of known options, without kind and length. False: the length is not the option's.
bool read_mss(Cursor body, TcpSegment* segment) {
  const auto* const mss = body.take<be16>();
  if (mss == nullptr || body.remaining() != 0) return false;
  segment->has_mss = true;
  segment->mss = mss->host();
  return true;
}

bool read_window_scale(Cursor body, TcpSegment* segment) {
  const auto* const shift = body.take<uint8_t>();
  if (shift == nullptr || body.remaining() != 0) return false;
  segment->has_window_scale = true;
  segment->window_scale = std::min(*shift, kMaxWindowScale);
  return true;
}

bool read_timestamps(Cursor body, TcpSegment* segment) {
  const auto* const value = body.take<be32>();
  const auto* const echo = body.take<be32>();
  if (echo == nullptr || body.remaining() != 0) return false;
  segment->has_timestamps = true;
  segment->ts_value = value->host();
  segment->ts_echo = echo->host();
  return true;
}

bool read_sack(Cursor body, TcpSegment* segment) {
  if (body.remaining() == 0 || body.remaining() % sizeof(SackOption) != 0) return false;
  segment->sack_count = 0;
  while (const auto* const block = body.take<SackOption>()) {
    if (segment->sack_count == segment->sack.size()) return false;
    segment->sack[segment->sack_count++] = {block->left.host(), block->right.host()};
  }
  return true;
}

bool read_option(uint8_t kind, Cursor body, TcpSegment* segment) {
  switch (kind) {
    case tcp_option::mss:
      return read_mss(body, segment);
    case tcp_option::window_scale:
      return read_window_scale(body, segment);
    case tcp_option::timestamps:
      return read_timestamps(body, segment);
    case tcp_option::sack:
      return read_sack(body, segment);
    case tcp_option::sack_permitted:
      segment->sack_permitted = true;
      return body.remaining() == 0;
    default:
      return true;  // RFC 9293 MUST-6
  }
}

// Each turn consumes at least one byte, so it ends.
Drop read_options(Cursor options, TcpSegment* segment) {
  while (const auto* const kind = options.take<uint8_t>()) {
    if (*kind == tcp_option::end) return Drop::none;
    if (*kind == tcp_option::no_operation) continue;
    const auto* const length = options.take<uint8_t>();
    if (length == nullptr || *length < 2) return Drop::tcp_malformed;  // RFC 9293 MUST-7
    const std::byte* const body = options.take_bytes(*length - 2U);
    if (body == nullptr) return Drop::tcp_malformed;
    if (!read_option(*kind, Cursor(body, *length - 2U), segment)) return Drop::tcp_malformed;
  }
  return Drop::none;
}

}  // namespace

Drop parse_tcp(const RxPacket& packet, const ParsedPacket& parsed, TcpSegment* segment) noexcept {
  *segment = TcpSegment{};
  segment->seq = parsed.tcp_seq;
  segment->ack = parsed.tcp_ack;
  segment->length = parsed.payload_length;
  segment->window = parsed.tcp_window;
  segment->urgent = parsed.tcp_urgent;
  segment->flags = parsed.tcp_flags;
  segment->ecn = parsed.tos & 3;
  const std::byte* const options = packet.data + parsed.l4_offset + sizeof(TcpHeader);
  if (take_aligned_timestamps(options, parsed.tcp_options_length, segment)) return Drop::none;
  return read_options(Cursor(options, parsed.tcp_options_length), segment);
}

}  // namespace postern::wire
