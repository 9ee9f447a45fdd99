#include "shrink.h"

#include <algorithm>
#include <cstdio>
#include <type_traits>
#include <utility>
#include <vector>

namespace postern::sim {

namespace {

constexpr uint64_t kMostAttempts = 5000;

// What everything is reduced to.
Options plainest() {
  Options o;
  for (int side = 0; side < 2; ++side) {
    LinkOptions& link = o.link[side];
    link.rate = 1e9;
    link.delay = Duration(10ms);
    link.queue = 1'000'000;
    AppOptions& app = o.app[side];
    app.bytes = 0;
    app.write_size = 65536;
    app.send_buffer = 1 << 20;
  }
  return o;
}

std::string text(bool value) { return value ? "yes" : "no"; }
std::string text(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%g", value);
  return out;
}
std::string text(Duration value) {
  return text(std::chrono::duration<double>(value).count() * 1e3) + " ms";
}
template <class T>
requires std::is_integral_v<T> std::string text(T value) { return std::to_string(value); }

// A part of Options that can be made plainer, and told.
struct Field {
  std::string name;
  std::function<bool(const Options&)> plain;
  std::function<void(Options&)> reset;
  std::function<std::string(const Options&)> tell;
  std::function<bool(Options&)> halve;  // false: it cannot
};

template <class Get>
Field field(const std::string& name, Get get) {
  static const Options kPlainest = plainest();
  const auto read = [get](const Options& o) { return get(const_cast<Options&>(o)); };
  Field f;
  f.name = name;
  f.plain = [read](const Options& o) { return read(o) == read(kPlainest); };
  f.reset = [get, read](Options& o) { get(o) = read(kPlainest); };
  f.tell = [read](const Options& o) { return text(read(o)); };
  f.halve = [get](Options& o) {
    auto& value = get(o);
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<T, uint32_t>) {
      if (value < 2) return false;
      value /= 2;
      return true;
    } else {
      return false;
    }
  };
  return f;
}

void add_link(std::vector<Field>& all, int side) {
  const std::string at = "link " + std::to_string(side) + ": ";
  const auto add = [&](const char* name, auto member) {
    all.push_back(field(
        at + name, [ side, member ](Options & o) -> auto& { return o.link[side].*member; }));
  };
  add("packets shrink later, to", &LinkOptions::mss_later);
  add("when", &LinkOptions::mtu_at);
  add("marks above", &LinkOptions::mark_above);
  add("bits a second", &LinkOptions::rate);
  add("queue", &LinkOptions::queue);
  add("delay", &LinkOptions::delay);
  add("mss", &LinkOptions::mss);
}

void add_app(std::vector<Field>& all, int side) {
  const std::string at = "application " + std::to_string(side) + ": ";
  const auto add = [&](const char* name, auto member) {
    all.push_back(field(
        at + name, [ side, member ](Options & o) -> auto& { return o.app[side].*member; }));
  };
  add("bytes", &AppOptions::bytes);
  add("stalls at", &AppOptions::stall_at);
  add("stalls for", &AppOptions::stall_for);
  add("reads bytes a second", &AppOptions::read_rate);
  add("waits between writes", &AppOptions::write_interval);
  add("writes at once", &AppOptions::write_size);
  add("send buffer", &AppOptions::send_buffer);
  add("receive memory", &AppOptions::receive_memory);
  add("nodelay", &AppOptions::nodelay);
  add("closes its half first", &AppOptions::half_close);
  add("burst", &AppOptions::burst);
}

void add_config(std::vector<Field>& all, int side) {
  const std::string at = "engine " + std::to_string(side) + ": ";
  const auto add = [&](const char* name, auto member) {
    all.push_back(field(
        at + name, [ side, member ](Options & o) -> auto& { return o.config[side].*member; }));
  };
  add("timestamps", &TcpConfig::timestamps);
  add("sack", &TcpConfig::sack);
  add("window scaling", &TcpConfig::window_scaling);
  add("ecn", &TcpConfig::ecn);
  add("congestion", &TcpConfig::congestion);
  add("initial window", &TcpConfig::initial_window);
  add("receive buffer", &TcpConfig::receive_buffer);
  add("delayed ACK", &TcpConfig::delayed_ack);
  add("time wait", &TcpConfig::time_wait);
  add("rto_max", &TcpConfig::rto_max);
  add("retries", &TcpConfig::retries);
  add("orphan retries", &TcpConfig::orphan_retries);
  add("SYN retries", &TcpConfig::syn_retries);
  add("SYN-ACK retries", &TcpConfig::syn_ack_retries);
}

std::vector<Field> make_fields() {
  std::vector<Field> all;
  for (int side = 0; side < 2; ++side) add_app(all, side);
  all.push_back(field(
      "simultaneous open", [](Options & o) -> auto& { return o.simultaneous_open; }));
  all.push_back(field(
      "options stripped", [](Options & o) -> auto& { return o.strip_options; }));
  all.push_back(field(
      "ranges", [](Options & o) -> auto& { return o.pool; }));
  for (int side = 0; side < 2; ++side) {
    add_link(all, side);
    add_config(all, side);
  }
  return all;
}

const std::vector<Field>& fields() {
  static const std::vector<Field> all = make_fields();
  return all;
}

class Search {
 public:
  Search(const Options& options, const Runner& run) : run_(run), best_{options, {}, 0} {}

  Shrunk result() {
    const Attempt first = run_(best_.options);
    ++best_.attempts;
    best_.failure = first.failure;
    kind_ = kind_of(first.failure);
    Options given = best_.options;
    given.fates = first.fates;
    if (!accept(given)) return best_;  // it does not fail twice alike
    given.scripted = true;
    (void)accept(given);
    bool smaller = true;
    while (smaller) {
      smaller = fewer_fates();
      smaller = plainer() || smaller;
    }
    return best_;
  }

 private:
  using Key = std::pair<int, uint64_t>;

  // Whether these options fail as the first ones did; then they are the best so far.
  bool accept(const Options& options) {
    if (best_.attempts >= kMostAttempts) return false;
    ++best_.attempts;
    Attempt a = run_(options);
    if (a.failure.empty() || kind_of(a.failure) != kind_) return false;
    best_.options = options;
    best_.options.fates = a.fates;  // those of packets that were never sent go too
    best_.failure = a.failure;
    return true;
  }

  [[nodiscard]] std::vector<Key> keys() const {
    std::vector<Key> all;
    for (int side = 0; side < 2; ++side) {
      for (const auto& [number, fate] : best_.options.fates->of[side])
        all.emplace_back(side, number);
    }
    return all;
  }

  // Leaves out ever smaller pieces, down to each fate alone.
  bool fewer_fates() {
    bool any = false;
    for (size_t piece = keys().size(); piece != 0; piece /= 2) {
      for (size_t at = 0; at < keys().size();) {
        const std::vector<Key> all = keys();
        Options candidate = best_.options;
        for (size_t i = at; i < std::min(at + piece, all.size()); ++i) {
          candidate.fates->of[all[i].first].erase(all[i].second);
        }
        if (accept(candidate)) {
          any = true;
        } else {
          at += piece;
        }
      }
    }
    return any;
  }

  bool plainer() {
    bool any = false;
    for (const Field& f : fields()) {
      if (f.plain(best_.options)) continue;
      Options candidate = best_.options;
      f.reset(candidate);
      if (accept(candidate)) {
        any = true;
        continue;
      }
      for (candidate = best_.options; f.halve(candidate) && accept(candidate);) any = true;
    }
    return any;
  }

  const Runner& run_;
  Shrunk best_;
  std::string kind_;
};

}  // namespace

Shrunk shrink(const Options& options, const Runner& run) { return Search(options, run).result(); }

std::string describe(const Options& options) {
  std::string out;
  for (const Field& f : fields()) {
    if (!f.plain(options)) out += "  " + f.name + " " + f.tell(options) + "\n";
  }
  if (!options.fates.has_value()) return out;
  for (int side = 0; side < 2; ++side) {
    for (const auto& [number, fate] : options.fates->of[side]) {
      out += "  packet " + std::to_string(number) + " of side " + std::to_string(side) + ":" +
             (fate.lost ? " lost" : "") + (fate.twice ? " twice" : "") +
             (fate.late.count() != 0 ? " late by " + text(fate.late) : "") + "\n";
    }
  }
  return out;
}

}  // namespace postern::sim
