#include "report.h"

#include <cstdarg>
#include <cstdio>

namespace postern::perf {
namespace {

[[gnu::format(printf, 2, 3)]] void append(std::string& out, const char* format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  out += line;
}

double per_second(uint64_t count, const Result& r) {
  return r.seconds == 0 ? 0 : static_cast<double>(count) / r.seconds;
}

double microseconds(double ticks, const Result& r) { return ticks / r.ticks_per_ns / 1000; }

double milliseconds(Tsc ticks, const Result& r) {
  return microseconds(static_cast<double>(ticks), r) / 1000;
}

double quantile(const Result& r, double fraction) {
  return microseconds(static_cast<double>(r.latency.quantile(fraction)), r);
}

double typical(uint64_t ticks, const Result& r) {
  return microseconds(static_cast<double>(ticks), r);
}

double gbits(uint64_t bytes, const Result& r) { return per_second(bytes, r) * 8e-9; }

const char* unit(Mode mode) {
  switch (mode) {
    case Mode::udp_echo:
      return "datagrams echoed";
    case Mode::udp_flood:
      return "datagrams answered";
    case Mode::tcp_rr:
      return "requests answered";
    case Mode::tcp_crr:
      return "connections opened, used and closed";
    case Mode::syn_flood:
      return "SYN-ACKs";
    case Mode::reflect:
      return "frames reflected";
    case Mode::tcp_send:
    case Mode::tcp_recv:
      break;
  }
  return "";
}

void append_latency(std::string& out, const Result& r) {
  if (r.latency.count() == 0) return;
  append(out, "latency, us     p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f  mean %.2f\n",
         quantile(r, 0.5), quantile(r, 0.9), quantile(r, 0.99), quantile(r, 0.999),
         microseconds(static_cast<double>(r.latency.max()), r), microseconds(r.latency.mean(), r));
  append(out, "  median 10 ms  p50 %.2f  p99 %.2f  p99.9 %.2f\n", typical(r.typical.p50, r),
         typical(r.typical.p99, r), typical(r.typical.p999, r));
}

void append_trouble(std::string& out, const Result& r) {
  const LoadCounters& c = r.load;
  if (c.lost + c.retransmits + c.resets + c.mismatches + c.bad_frames + r.link.tx_dropped == 0) {
    return;
  }
  append(out,
         "trouble         lost %lu, retransmitted %lu, reset %lu, wrong data %lu, bad frames %lu, "
         "not sent %lu\n",
         c.lost, c.retransmits, c.resets, c.mismatches, c.bad_frames, r.link.tx_dropped);
}

}  // namespace

std::string to_text(const Options& o, const Result& r) {
  std::string out;
  append(out,
         "%s, %u connections, %u active, %u bytes, checksum %s, %.1f s after %.2f s of set-up\n",
         mode_name(o.mode), o.connections, o.active, o.size, o.checksum ? "on" : "off", r.seconds,
         r.setup_seconds);
  if (*unit(o.mode) != 0) {
    append(out, "rate            %.0f/s %s\n", per_second(r.load.completed, r), unit(o.mode));
  }
  append_latency(out, r);
  append(out, "payload         out %.3f Gbit/s, in %.3f Gbit/s\n", gbits(r.load.bytes_sent, r),
         gbits(r.load.bytes_received, r));
  append(out, "link            out %.3f Mpps, in %.3f Mpps\n",
         per_second(r.link.tx_packets, r) * 1e-6, per_second(r.link.rx_packets, r) * 1e-6);
  append_trouble(out, r);
  if (r.host) {
    append(out,
           "application     %lu connections, in %.3f Gbit/s, out %.3f Gbit/s, datagrams in "
           "%.0f/s, out %.0f/s, errors %lu\n",
           r.host->connections, gbits(r.host->bytes_in, r), gbits(r.host->bytes_out, r),
           per_second(r.host->datagrams_in, r), per_second(r.host->datagrams_out, r),
           r.host->errors);
  }
  append(out,
         "generator       idle %.1f %% of its time; its core taken away %lu times, %.1f ms in all, "
         "%.1f ms at most\n",
         r.idle_share * 100, r.away.times, milliseconds(r.away.ticks, r),
         milliseconds(r.away.longest, r));
  return out;
}

std::string to_json(const Options& o, const Result& r) {
  std::string out;
  append(out,
         "{\"mode\":\"%s\",\"connections\":%u,\"active\":%u,\"size\":%u,\"window\":%u,"
         "\"rate_limit\":%.0f,\"mtu\":%u,\"checksum\":%s,",
         mode_name(o.mode), o.connections, o.active, o.size, o.window, o.rate, o.mtu,
         o.checksum ? "true" : "false");
  append(out,
         "\"setup_seconds\":%.6f,\"seconds\":%.6f,\"completed\":%lu,\"sent\":%lu,"
         "\"rate\":%.3f,",
         r.setup_seconds, r.seconds, r.load.completed, r.load.sent,
         per_second(r.load.completed, r));
  append(out,
         "\"latency_us\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p99.9\":%.3f,\"max\":%.3f,"
         "\"mean\":%.3f},",
         quantile(r, 0.5), quantile(r, 0.9), quantile(r, 0.99), quantile(r, 0.999),
         microseconds(static_cast<double>(r.latency.max()), r), microseconds(r.latency.mean(), r));
  append(out, "\"typical_us\":{\"p50\":%.3f,\"p99\":%.3f,\"p99.9\":%.3f},",
         typical(r.typical.p50, r), typical(r.typical.p99, r), typical(r.typical.p999, r));
  append(out, "\"gbit_out\":%.6f,\"gbit_in\":%.6f,\"tx_pps\":%.1f,\"rx_pps\":%.1f,",
         gbits(r.load.bytes_sent, r), gbits(r.load.bytes_received, r),
         per_second(r.link.tx_packets, r), per_second(r.link.rx_packets, r));
  append(out,
         "\"lost\":%lu,\"retransmits\":%lu,\"resets\":%lu,\"mismatches\":%lu,"
         "\"bad_frames\":%lu,\"tx_dropped\":%lu,",
         r.load.lost, r.load.retransmits, r.load.resets, r.load.mismatches, r.load.bad_frames,
         r.link.tx_dropped);
  if (r.host) {
    append(out,
           "\"application\":{\"connections\":%lu,\"gbit_in\":%.6f,\"gbit_out\":%.6f,"
           "\"datagrams_in\":%.1f,\"datagrams_out\":%.1f,\"errors\":%lu},",
           r.host->connections, gbits(r.host->bytes_in, r), gbits(r.host->bytes_out, r),
           per_second(r.host->datagrams_in, r), per_second(r.host->datagrams_out, r),
           r.host->errors);
  }
  append(out, "\"away\":{\"times\":%lu,\"ms\":%.3f,\"longest_ms\":%.3f},", r.away.times,
         milliseconds(r.away.ticks, r), milliseconds(r.away.longest, r));
  append(out, "\"idle_share\":%.4f}\n", r.idle_share);
  return out;
}

}  // namespace postern::perf
