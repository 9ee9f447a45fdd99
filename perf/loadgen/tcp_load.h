// TCP with as little state as measuring allows: 64 bytes a connection, found by its address and
// port without a search. In-order data only (anything else is asked for again), go-back-N on three
// duplicate acknowledgments or after 200 ms, no congestion control: the link under test is
// lossless.
#pragma once

#include <vector>

#include "frame.h"
#include "load.h"

namespace postern::perf {

enum class TcpPhase : uint8_t { closed, syn_sent, open, closing };

struct alignas(64) Connection {
  Tsc due = 0;         // when the request, or the connection, was to begin
  Tsc sent_at = 0;     // last transmission or progress of what awaits an ACK or answer; 0: nothing
  uint32_t tuple = 0;  // address and port: tuple / ports, tuple % ports
  uint32_t snd_una = 0, snd_nxt = 0, snd_max = 0;
  uint32_t snd_base = 0;  // the pattern starts here
  uint32_t snd_end = 0;   // data ends here; a FIN follows when closing
  uint32_t snd_wnd = 0;   // bytes
  uint32_t rcv_nxt = 0;
  uint32_t response_left = 0;  // bytes
  TcpPhase phase = TcpPhase::closed;
  uint8_t wnd_shift = 0;
  uint8_t dup_acks = 0;
  uint8_t retries = 0;
  bool ack_owed = false;
  bool fin_seen = false;
};
static_assert(sizeof(Connection) == 64);

// Bytes of data in the largest segment that the MTU lets through.
constexpr uint32_t largest_segment(const Options& o) noexcept {
  const size_t ip = o.local.v6 ? sizeof(rte_ipv6_hdr) : sizeof(rte_ipv4_hdr);
  return static_cast<uint32_t>(o.mtu - ip - sizeof(rte_tcp_hdr));
}

class TcpLoad final : public Load {
 public:
  TcpLoad(const Options& options, Link& link);

  void receive(std::span<rte_mbuf*> frames, Tsc now) override;
  void generate(Tsc now) override;
  bool ready() const override;
  std::string progress() const override;
  bool wind_down(Tsc now) override;

 private:
  // tcp_input.cc
  Connection* find(const TcpView& segment) noexcept;
  void on_segment(Connection& c, const TcpView& segment, Tsc now) noexcept;
  void on_syn_ack(Connection& c, const TcpView& segment, Tsc now) noexcept;
  void on_reset(Connection& c, const TcpView& segment) noexcept;
  void on_ack(Connection& c, const TcpView& segment, Tsc now) noexcept;
  void on_data(Connection& c, const TcpView& segment) noexcept;
  void answer_unknown(const TcpView& segment) noexcept;

  // tcp_output.cc
  void send_syn(Connection& c, Tsc now) noexcept;
  void send_pending(Connection& c, Tsc now) noexcept;  // data and FIN as the window allows
  void send_ack(Connection& c) noexcept { emit(c, c.snd_nxt, RTE_TCP_ACK_FLAG, 0); }
  void emit(Connection& c, uint32_t seq, uint8_t flags, uint32_t length) noexcept;
  uint8_t* start_frame(uint32_t tuple, uint32_t seq, uint32_t ack, uint8_t flags,
                       uint16_t options_length, uint32_t length) noexcept;
  void finish_frame(uint8_t* tcp, uint32_t tuple, uint32_t header, uint32_t length,
                    uint32_t data_sum) noexcept;
  uint32_t pattern_sum(uint32_t phase, const uint8_t* data, uint32_t length) const noexcept;

  // tcp_load.cc
  void open(Connection& c, Tsc due, Tsc now) noexcept;
  void on_open(Connection& c, Tsc now) noexcept;
  void start_request(Connection& c, Tsc due, Tsc now) noexcept;
  void on_response(Connection& c, Tsc now) noexcept;
  void on_closed(Connection& c, Tsc now) noexcept;
  void reopen_later(Connection& c) noexcept;
  void open_more(Tsc now) noexcept;
  void request_more(Tsc now) noexcept;
  void pump_bulk(Tsc now) noexcept;
  void sweep(Tsc now) noexcept;
  void resend(Connection& c, Tsc now) noexcept;
  bool is_bulk() const noexcept { return mode_ == Mode::tcp_send || mode_ == Mode::tcp_recv; }

  // A first-in first-out of connection numbers, each at most once in it.
  class Queue {
   public:
    explicit Queue(size_t capacity) : items_(capacity + 1) {}
    bool empty() const noexcept { return head_ == tail_; }
    void push(uint32_t i) noexcept { items_[tail_] = i, tail_ = next(tail_); }
    uint32_t pop() noexcept {
      const uint32_t i = items_[head_];
      head_ = next(head_);
      return i;
    }

   private:
    size_t next(size_t i) const noexcept { return i + 1 == items_.size() ? 0 : i + 1; }
    std::vector<uint32_t> items_;
    size_t head_ = 0, tail_ = 0;
  };

  uint32_t index(const Connection& c) const noexcept {
    return static_cast<uint32_t>(&c - connections_.data());
  }

  const Options& options_;
  const Mode mode_;
  Link& link_;
  IpTemplate ip_;
  Pace pace_;
  std::vector<Connection> connections_;
  Queue to_open_;
  Queue idle_;                          // open, active, without a request
  std::vector<Connection*> owed_;       // ack_owed at some time of this burst
  std::vector<uint8_t> pattern_;        // of a request; bulk: of a segment
  std::vector<uint32_t> segment_sums_;  // of pattern_ cut at mss_
  rte_mbuf* frame_ = nullptr;           // between start_frame() and finish_frame()
  uint32_t mss_;
  uint64_t usable_tuples_;
  uint32_t opening_ = 0, established_ = 0;
  uint32_t stride_;      // every stride_-th connection is active
  uint32_t cursor_ = 0;  // of sweep()
  uint32_t bulk_cursor_ = 0;
  uint32_t wind_cursor_ = 0;
  Tsc sweep_started_ = 0;
  Tsc rto_;
  bool started_ = false;  // requests may be sent
};

}  // namespace postern::perf
