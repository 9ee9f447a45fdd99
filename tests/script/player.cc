#include "player.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "words.h"

namespace postern::script {

Player::Player(const Script& script)
    : script_(script), verdict_(script.path), base_(Duration(1000s)) {}

std::string Player::run() {
  try {
    apply_settings();
    now_ = base_;
    for (const Event& e : script_.events) play(e);
    if (!sent_.empty()) {
      verdict_.unexpected(script_.events.back(), numbers_.to_script(sent_.front().segment),
                          sent_.front().at - base_);
    }
    return "";
  } catch (const Failure& f) {
    return f.what;
  }
}

void Player::apply_settings() {
  const std::map<std::string, Duration*> durations{
      {"rto_initial", &config_.rto_initial},
      {"rto_min", &config_.rto_min},
      {"rto_max", &config_.rto_max},
      {"delayed_ack", &config_.delayed_ack},
      {"time_wait", &config_.time_wait},
      {"fin_wait_2", &config_.fin_wait_2},
      {"keepalive_idle", &config_.keepalive_idle},
      {"keepalive_interval", &config_.keepalive_interval}};
  config_.receive_buffer_max = 0;  // windows stay, unless a script wants them to grow
  const std::map<std::string, bool*> switches{{"timestamps", &config_.timestamps},
                                              {"window_scaling", &config_.window_scaling},
                                              {"sack", &config_.sack},
                                              {"ecn", &config_.ecn}};
  for (const Setting& s : script_.settings) {
    const auto number = static_cast<uint32_t>(std::strtoul(s.value.c_str(), nullptr, 0));
    const auto duration = parse_duration(s.value);
    if (durations.count(s.key) != 0 && duration.has_value()) {
      *durations.at(s.key) = *duration;
    } else if (switches.count(s.key) != 0) {
      *switches.at(s.key) = number != 0;
    } else if (s.key == "tolerance_usecs") {
      tolerance_ = std::chrono::microseconds(number);
    } else if (s.key == "congestion") {
      const size_t index = find_congestion(s.value);
      if (index == kCongestionCount) throw Failure{script_.path + ": unknown algorithm " + s.value};
      config_.congestion = static_cast<uint8_t>(index);
    } else if (s.key == "initial_window") {
      config_.initial_window = static_cast<uint16_t>(number);
    } else if (s.key == "receive_buffer") {
      config_.receive_buffer = number;
    } else if (s.key == "receive_buffer_max") {
      config_.receive_buffer_max = number;
    } else if (s.key == "receive_memory") {
      memory_ = number;
    } else if (s.key == "mss") {
      mss_ = static_cast<uint16_t>(number);
    } else if (s.key == "burst") {
      burst_ = number;
    } else if (s.key == "ranges") {
      pool_ = TcpRangePool(number);
    } else if (s.key == "retries") {
      config_.retries = static_cast<uint8_t>(number);
    } else if (s.key == "orphan_retries") {
      config_.orphan_retries = static_cast<uint8_t>(number);
    } else if (s.key == "syn_retries") {
      config_.syn_retries = static_cast<uint8_t>(number);
    } else if (s.key == "syn_ack_retries") {
      config_.syn_ack_retries = static_cast<uint8_t>(number);
    } else if (s.key == "keepalive_probes") {
      config_.keepalive_probes = static_cast<uint8_t>(number);
    } else {
      throw Failure{script_.path + ": unknown setting --" + s.key};
    }
  }
}

TcpContext Player::context() {
  TcpContext ctx;
  ctx.set_now(now_);
  ctx.config = &config_;
  ctx.counters = &counters_;
  ctx.isn = numbers_.isn();
  ctx.ts_offset = ts_offset_;
  ctx.random = 0;  // the smallest challenge ACK budget: 5
  ctx.ranges = &pool_;
  const uint32_t used = stored_to_ - consumed_;
  ctx.receive_room = memory_ > used ? memory_ - used : 0;
  return ctx;
}

void Player::play(const Event& e) {
  if (e.type == Event::Type::outbound) {
    outbound(e);
    return;
  }
  if (!e.any_time) {
    // An expected packet may have moved time on, within the tolerance.
    const Time at = base_ + e.earliest.time_since_epoch();
    advance(std::max(at, now_));
  }
  switch (e.type) {
    case Event::Type::inbound:
      inbound(e);
      break;
    case Event::Type::assertion:
      assertion(e);
      break;
    default:
      call(e);
  }
  drain();
}

// Lets time pass, and the engine's timers with it.
void Player::advance(Time to) {
  while (opened_ && !finished_ && tcp_->next_deadline() <= to) {
    now_ = std::max(now_, tcp_->next_deadline());
    TcpContext ctx = context();
    tcp_->on_timer(ctx);
    drain();
  }
  now_ = to;
}

void Player::drain() {
  if (!opened_) return;
  TcpSegment s;
  for (int i = 0; i < 10000; ++i) {
    TcpContext ctx = context();
    tcp_->check_invariants(ctx);
    if (!tcp_->next_segment(ctx, s)) break;
    sent_.push_back(Sent{s, now_});
  }
  collect_events();
}

void Player::collect_events() {
  const uint16_t events = tcp_->take_events();
  connected_ = connected_ || (events & tcp_event::connected) != 0;
  peer_fin_ = peer_fin_ || (events & tcp_event::peer_fin) != 0;
  failed_ = failed_ || (events & tcp_event::failed) != 0;
  released_ = released_ || (events & tcp_event::released) != 0;
  finished_ = finished_ || (events & tcp_event::finished) != 0;
}

// The next connection of a listener, when the last one is over.
void Player::start_over() {
  tcp_ = std::make_unique<TcpConnection>();
  opened_ = connected_ = peer_fin_ = failed_ = error_taken_ = false;
  released_ = finished_ = shut_ = false;
  consumed_ = stored_to_ = 0;
  numbers_ = {};
}

void Player::open(bool active, const TcpSegment* syn) {
  TcpContext ctx = context();
  if (active) {
    tcp_->open_active(ctx, mss_);
  } else {
    tcp_->open_passive(ctx, *syn, mss_);
  }
  if (burst_ != 0) tcp_->set_max_segment_burst(burst_);
  opened_ = true;
}

void Player::inbound(const Event& e) {
  if (e.packet.icmp) {
    icmp(e);
    return;
  }
  const uint8_t flags = e.packet.segment.flags;
  const bool is_open = (flags & (tcp_flag::syn | tcp_flag::ack | tcp_flag::rst)) == tcp_flag::syn;
  if (listening_ && finished_ && is_open) start_over();
  const TcpSegment s = numbers_.to_wire(e.packet);
  if (listening_ && !opened_ && is_open) {
    open(false, &s);
    return;
  }
  if (!opened_ || finished_) {
    TcpSegment reset;
    if (reset_for(s, reset)) sent_.push_back(Sent{reset, now_});
    return;
  }
  TcpContext ctx = context();
  const TcpInput in = tcp_->on_segment(ctx, s);
  if (in.accept_data) {
    if (in.skip + in.length > s.length) verdict_.fail(e, "the engine accepted more than there is");
    stored_to_ = std::max(stored_to_, in.position + in.length);
  }
}

void Player::icmp(const Event& e) {
  TcpContext ctx = context();
  const uint32_t seq = e.packet.segment.seq + numbers_.isn();
  if (e.packet.icmp_mtu != 0) {
    tcp_->on_path_mtu(ctx, static_cast<uint16_t>(e.packet.icmp_mtu - 40));
  } else {
    tcp_->on_icmp_error(ctx, e.packet.icmp_errno, seq);
  }
}

void Player::outbound(const Event& e) {
  const Time latest = base_ + e.latest.time_since_epoch() + tolerance_;
  const Time give_up = e.any_time ? now_ + Duration(1000s) : latest;
  while (sent_.empty() && opened_ && !finished_ && tcp_->next_deadline() <= give_up) {
    advance(std::max(now_, tcp_->next_deadline()));
  }
  if (sent_.empty()) verdict_.no_packet(e);
  const Sent sent = sent_.front();
  sent_.pop_front();
  numbers_.learn(sent.segment, e.packet.segment);
  verdict_.packet(e, numbers_.to_script(sent.segment), sent.at - base_, tolerance_);
  now_ = std::max(now_, sent.at);
}

// ---- socket calls ----

void Player::call(const Event& e) {
  const Call& c = e.call;
  TcpContext ctx = context();
  int error = 0;
  if (c.name == "socket") {
    verdict_.result(e, c.result, 0);
  } else if (c.name == "bind" || c.name == "fcntl") {
    verdict_.result(e, 0, 0);
  } else if (c.name == "listen") {
    listening_ = true;
    verdict_.result(e, 0, 0);
  } else if (c.name == "connect") {
    if (opened_) {  // again: how did it go?
      verdict_.result(e, connected_ ? 0 : -1, failed_ ? tcp_->error() : EINPROGRESS);
    } else {
      open(true, nullptr);
      drain();
      if (c.result < 0) verdict_.result(e, -1, EINPROGRESS);  // a blocking one returns later
    }
  } else if (c.name == "accept") {
    if (!connected_) verdict_.fail(e, "there is no connection to accept");
    if (c.result < 0) verdict_.fail(e, "accept succeeded");
  } else if (c.name == "setsockopt") {
    call_setsockopt(e);
  } else if (c.name == "getsockopt") {
    call_getsockopt(e);
  } else if (c.name == "read" || c.name == "recv") {
    const long result = do_read(e, error);
    verdict_.result(e, result, error);
  } else if (c.name == "write" || c.name == "send") {
    const long result = do_write(e, error);
    verdict_.result(e, result, error);
  } else if (c.name == "shutdown") {
    shut_ = true;
    tcp_->on_shutdown_write(ctx);
    verdict_.result(e, 0, 0);
  } else if (c.name == "close") {
    shut_ = true;
    tcp_->on_close(ctx);
    verdict_.result(e, 0, 0);
  } else if (c.name == "abort") {  // SO_LINGER with a time of 0, then close
    tcp_->on_abort(ctx);
    verdict_.result(e, 0, 0);
  } else {
    verdict_.fail(e, "unknown call " + c.name);
  }
}

long Player::do_read(const Event& e, int& error) {
  const uint32_t most = bracketed(e.call.arguments.at(2));
  const uint32_t available = tcp_->rx_tail() - consumed_;
  if (available != 0) {
    const uint32_t amount = std::min(available, most);
    consumed_ += amount;
    TcpContext ctx = context();
    tcp_->on_consumed(ctx, consumed_);
    return amount;
  }
  if (failed_ && !error_taken_) {
    error_taken_ = true;
    error = tcp_->error();
    return -1;
  }
  if (peer_fin_ || failed_) return 0;
  error = EAGAIN;
  return -1;
}

long Player::do_write(const Event& e, int& error) {
  const uint32_t amount = bracketed(e.call.arguments.at(2));
  if (failed_ && !error_taken_) {
    error_taken_ = true;
    error = tcp_->error();
    return -1;
  }
  if (failed_ || shut_ || finished_) {
    error = EPIPE;
    return -1;
  }
  const bool more =
      e.call.arguments.size() > 3 && e.call.arguments[3].find("MSG_MORE") != std::string::npos;
  TcpContext ctx = context();
  tcp_->on_send(ctx, amount, more);
  return amount;
}

void Player::call_setsockopt(const Event& e) {
  static const std::map<std::string, TcpOption> options{
      {"TCP_NODELAY", TcpOption::nodelay},
      {"TCP_CORK", TcpOption::cork},
      {"SO_KEEPALIVE", TcpOption::keepalive},
      {"TCP_KEEPIDLE", TcpOption::keepalive_idle},
      {"TCP_KEEPINTVL", TcpOption::keepalive_interval},
      {"TCP_KEEPCNT", TcpOption::keepalive_probes},
      {"TCP_USER_TIMEOUT", TcpOption::user_timeout},
      {"SO_RCVBUF", TcpOption::receive_buffer},
      {"SO_SNDBUF", TcpOption::send_buffer},
      {"TCP_MAXSEG", TcpOption::max_segment},
      {"TCP_QUICKACK", TcpOption::quick_ack},
      {"TCP_CONGESTION", TcpOption::congestion}};
  const std::string& name = e.call.arguments.at(2);
  if (name == "SO_REUSEADDR" || name == "SO_OOBINLINE") {  // the engine's stream has all
    verdict_.result(e, 0, 0);
    return;
  }
  if (options.count(name) == 0) verdict_.fail(e, "unknown option " + name);
  std::string text = e.call.arguments.at(3);
  uint32_t number = bracketed(text);
  if (name == "TCP_CONGESTION") {
    text = unquoted(text);
    number = static_cast<uint32_t>(find_congestion(text));
  }
  TcpContext ctx = context();
  const bool good = tcp_->set_option(ctx, options.at(name), number);
  verdict_.result(e, good ? 0 : -1, good ? 0 : name == "TCP_CONGESTION" ? ENOENT : EINVAL);
}

void Player::call_getsockopt(const Event& e) {
  if (e.call.arguments.at(2) != "SO_ERROR") verdict_.fail(e, "only SO_ERROR");
  const int wanted = bracketed_errno(e.call.arguments.at(3));
  const int actual = failed_ && !error_taken_ ? tcp_->error() : 0;
  error_taken_ = failed_;
  if (actual != wanted) {
    verdict_.fail(e, "SO_ERROR is " + errno_name(actual));
  }
}

// ---- assertions ----

double Player::value(const Event& e, const std::string& name) {
  if (const int state = state_number(name); state >= 0) return state;
  TcpInfo info;
  TcpContext ctx = context();
  tcp_->info(ctx, info);
  const double mss = info.mss;
  const auto us = [](Duration d) { return std::chrono::duration<double>(d).count() * 1e6; };
  const std::map<std::string, double> values{
      {"tcpi_state", static_cast<double>(info.state)},
      {"tcpi_snd_cwnd", static_cast<double>(info.cwnd / info.mss)},
      {"tcpi_snd_ssthresh", info.ssthresh == UINT32_MAX ? 2147483647.0 : info.ssthresh / info.mss},
      {"tcpi_unacked", info.in_flight / mss},
      {"tcpi_in_flight", info.in_flight},
      {"tcpi_sacked", info.sacked / mss},
      {"tcpi_lost", info.lost / mss},
      {"tcpi_snd_mss", mss},
      {"tcpi_rcv_mss", info.rcv_mss},
      {"tcpi_rto", us(info.rto)},
      {"tcpi_rtt", us(info.srtt)},
      {"tcpi_rttvar", us(info.rttvar)},
      {"tcpi_min_rtt", us(info.min_rtt)},
      {"tcpi_backoff", info.backoff},
      {"tcpi_retransmits", info.retries},
      {"tcpi_total_retrans", info.retransmits},
      {"tcpi_notsent_bytes", info.unsent},
      {"tcpi_snd_wnd", info.snd_wnd},
      {"tcpi_rcv_wnd", info.rcv_wnd},
      {"tcpi_snd_wscale", info.snd_scale},
      {"tcpi_rcv_wscale", info.rcv_scale},
      {"tcpi_reord_seen", info.reordering},
      {"in_recovery", info.in_recovery},
      {"released", released_},
      {"finished", finished_},
      {"tx_acked", tcp_->tx_acked()},
      {"rx_tail", tcp_->rx_tail()},
      {"challenge_acks", static_cast<double>(counters_.get(Counter::tcp_challenge_acks))},
      {"timeouts", static_cast<double>(counters_.get(Counter::tcp_rto))},
  };
  const auto it = values.find(name);
  if (it != values.end()) return it->second;
  char* end = nullptr;
  const double number = std::strtod(name.c_str(), &end);
  if (end == name.c_str() || *end != '\0') verdict_.fail(e, "unknown name " + name);
  return number;
}

void Player::assertion(const Event& e) {
  for (const Assertion& a : e.assertions)
    verdict_.assertion(e, a, value(e, a.left), value(e, a.right));
}

}  // namespace postern::script
