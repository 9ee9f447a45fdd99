// The path's MTU: told by ICMP (RFC 1191, 8201), suspected where nothing tells (RFC 4821, 8899),
// and forgotten after ten minutes, because paths change.
#include "tcp/connection.h"

namespace postern {

namespace {
constexpr uint8_t kBlackHoleTimeouts = 3;  // in a row, of segments of the same size
constexpr uint16_t kSmaller[] = {1220,
                                 536};  // RFC 8899 5.1.2 with room for headers; RFC 9293 3.7.1
constexpr uint32_t kPathLifeMs = 10 * 60'000;  // RFC 1191 6.3, RFC 8201 4
}  // namespace

void TcpConnection::on_path_mtu(TcpContext& ctx, uint16_t mss) {
  if (state_ == TcpState::closed || mss >= path_mss_) return;
  const uint16_t before = mss_;
  lower_path_mss(ctx, mss);
  // RFC 1191 6.4: what did not fit is sent again at once, without reducing cwnd. All of it: a
  // router that limits its messages tells once (RFC 4443 2.4 f).
  if (mss_ < before && synchronized() && snd_nxt_ != snd_una_) {
    mark_oversized_lost(ctx);
    flags_.output = true;
  }
}

void TcpConnection::lower_path_mss(const TcpContext& ctx, uint16_t mss) {
  path_mss_ = mss < ctx.config->mss_min ? ctx.config->mss_min : mss;
  path_lowered_ms_ = to_ms(ctx.now);
  set_send_mss();
}

// RFC 4821 7.7, RFC 8899 4.3: timeout after timeout, and what times out is a large segment. It may
// be its size, with the ICMP that would say so lost on its way.
void TcpConnection::suspect_black_hole(const TcpContext& ctx) {
  if (retries_ % kBlackHoleTimeouts != 0 || snd_nxt_ - snd_una_ < mss_) return;
  for (const uint16_t smaller : kSmaller) {
    if (smaller < mss_) {
      lower_path_mss(ctx, smaller);
      return;
    }
  }
}

// Called once a round trip. If the path is still narrow, ICMP or the timeouts say so again.
void TcpConnection::age_path_mtu(const TcpContext& ctx) {
  if (path_mss_ == link_mss_ || to_ms(ctx.now) - path_lowered_ms_ < kPathLifeMs) return;
  path_mss_ = link_mss_;
  set_send_mss();
}

}  // namespace postern
