#include "support/offload_device.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "wire/headers.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

uint16_t get16(const Bytes& b, size_t at) {
  return static_cast<uint16_t>(std::to_integer<unsigned>(b[at]) << 8 |
                               std::to_integer<unsigned>(b[at + 1]));
}
void put16(Bytes& b, size_t at, uint32_t v) {
  b[at] = static_cast<std::byte>(v >> 8);
  b[at + 1] = static_cast<std::byte>(v);
}

// RFC 1071, word by word.
uint16_t internet_checksum(const Bytes& b, size_t from, size_t to, uint32_t sum) {
  for (size_t at = from; at < to; at += 2) {
    sum += at + 1 < to ? get16(b, at) : std::to_integer<uint32_t>(b[at]) << 8;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(~sum);
}

uint32_t pseudo_header(const Bytes& b, const TxFrame& w, size_t length) {
  const size_t l3 = w.l2_length;
  const size_t from = w.is_v6 ? l3 + 8 : l3 + 12, bytes = w.is_v6 ? 32 : 8;
  return static_cast<uint16_t>(~internet_checksum(b, from, from + bytes, 0)) + w.protocol +
         static_cast<uint32_t>(length);
}

void finish(Bytes& b, const TxFrame& w) {
  const size_t l3 = w.l2_length, l4 = l3 + w.l3_length;
  if (w.needs_ip_checksum) {
    put16(b, l3 + 10, 0);
    put16(b, l3 + 10, internet_checksum(b, l3, l4, 0));
  }
  if (!w.needs_l4_checksum) return;
  const size_t field = l4 + (w.protocol == 6 ? 16 : 6);
  put16(b, field, 0);
  const uint16_t sum = internet_checksum(b, l4, b.size(), pseudo_header(b, w, b.size() - l4));
  put16(b, field, w.protocol == 17 && sum == 0 ? 0xffff : sum);
}

Bytes piece_of(const Bytes& whole, const TxFrame& w, size_t at, size_t n, size_t number) {
  const size_t l3 = w.l2_length, l4 = l3 + w.l3_length, headers = l4 + w.l4_length;
  const bool last = headers + at + n == whole.size();
  Bytes piece(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(headers));
  const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(headers + at);
  piece.insert(piece.end(), begin, begin + static_cast<std::ptrdiff_t>(n));
  put16(piece, l3 + (w.is_v6 ? 4 : 2), static_cast<uint32_t>(piece.size() - (w.is_v6 ? l4 : l3)));
  if (!w.is_v6) put16(piece, l3 + 4, get16(whole, l3 + 4) + static_cast<uint32_t>(number));
  const uint32_t seq =
      (uint32_t{get16(whole, l4 + 4)} << 16 | get16(whole, l4 + 6)) + static_cast<uint32_t>(at);
  put16(piece, l4 + 4, seq >> 16);
  put16(piece, l4 + 6, seq & 0xffff);
  auto flags = std::to_integer<uint8_t>(piece[l4 + 13]);
  if (!last) flags &= static_cast<uint8_t>(~(tcp_flag::fin | tcp_flag::psh));
  if (number != 0) flags &= static_cast<uint8_t>(~tcp_flag::cwr);
  piece[l4 + 13] = std::byte{flags};
  TxFrame each = w;
  each.needs_ip_checksum = !w.is_v6;
  finish(piece, each);
  return piece;
}

}  // namespace

std::vector<Bytes> as_a_device(Bytes frame, const TxFrame& w) {
  std::vector<Bytes> out;
  if (w.tso_mss == 0) {
    finish(frame, w);
    out.push_back(std::move(frame));
    return out;
  }
  const size_t headers = size_t{w.l2_length} + w.l3_length + w.l4_length;
  const size_t payload = frame.size() - headers;
  for (size_t at = 0; at < payload; at += w.tso_mss) {
    out.push_back(piece_of(frame, w, at, std::min<size_t>(w.tso_mss, payload - at), out.size()));
  }
  return out;
}

}  // namespace postern::test
