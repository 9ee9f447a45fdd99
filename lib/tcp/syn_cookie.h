// SYN cookies (RFC 4987 3.6): when a listener has no room for another handshake, its SYN-ACK
// carries in the ISN what would have been remembered, and the ACK brings it back. Kept: MSS (to the
// next smaller of eight), window scale (likewise), SACK; timestamps are seen on the ACK. ECN is
// lost.
//
//   ISN = MAC, 24 bits | options, 8 bits, masked: MSS 3, scale 3, SACK 1, parity of the epoch 1
//
// An epoch is 64 s; a cookie holds for the one in which it was made and the next. A blind attacker
// opens one connection in 2^24 ACKs, so accept cookies only while some are about.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/time.h"
#include "wire/segment.h"

namespace postern {

inline constexpr Duration kSynCookieLife = 128s;  // none is accepted later

using SynCookieKey = std::array<uint64_t, 2>;  // secret; may be shared with other uses of SipHash

// The ISN that answers `syn`. tuple: the connection's addresses and ports, 40 bytes at most.
[[nodiscard]] uint32_t encode_syn_cookie(const SynCookieKey& key, std::span<const std::byte> tuple,
                                         const TcpSegment& syn, Time now);

// Whether `ack`, for which there is no connection, acknowledges a cookie. Then *syn is the SYN as
// far as it is known, for TcpConnection::open_cookie with ack.ack - 1 as ISN.
[[nodiscard]] bool decode_syn_cookie(const SynCookieKey& key, std::span<const std::byte> tuple,
                                     const TcpSegment& ack, Time now, TcpSegment* syn);

// The secret of a worker's cookies. It is replaced every kLife by a one-way step, so that neither
// cookies collected for long nor memory read later tell of older ones; the one before holds as long
// as its cookies do.
class SynCookieSecret {
 public:
  static constexpr Duration kLife = 10min;

  explicit SynCookieSecret(const SynCookieKey& seed) noexcept;

  [[nodiscard]] uint32_t encode(std::span<const std::byte> tuple, const TcpSegment& syn,
                                Time now) noexcept;
  [[nodiscard]] bool decode(std::span<const std::byte> tuple, const TcpSegment& ack, Time now,
                            TcpSegment* syn) noexcept;

 private:
  void rotate(Time now) noexcept;

  SynCookieKey chain_;
  SynCookieKey current_;
  SynCookieKey previous_;
  Time since_{};  // of current_
};

}  // namespace postern
