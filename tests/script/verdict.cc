#include "verdict.h"

#include <cstdio>

#include "words.h"

namespace postern::script {
namespace {

std::string in_seconds(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6f ", std::chrono::duration<double>(d).count());
  return text;
}

}  // namespace

void Verdict::fail(const Event& e, const std::string& what) const {
  throw Failure{path_ + ":" + std::to_string(e.line) + ": " + what};
}

void Verdict::result(const Event& e, long result, int error) const {
  const Call& c = e.call;
  const int wanted = errno_number(c.error);
  if (wanted < 0) fail(e, "unknown errno " + c.error);
  if (result == c.result && (result >= 0 || error == wanted)) return;
  fail(e, "another result than expected\n  expected: " + std::to_string(c.result) + " " + c.error +
              "\n  actual:   " + std::to_string(result) +
              (result < 0 ? " " + errno_name(error) : ""));
}

void Verdict::packet(const Event& e, const PacketSpec& actual, Duration at, Duration tolerance,
                     uint32_t timestamp_ms) const {
  std::string wrong = differences(e.packet, actual.segment, timestamp_ms);
  const bool timely = at >= e.earliest.time_since_epoch() - tolerance &&
                      at <= e.latest.time_since_epoch() + tolerance;
  if (!e.any_time && !timely) wrong += wrong.empty() ? "time" : ", time";
  if (wrong.empty()) return;
  fail(e, "another packet than expected (" + wrong + ")\n  expected: " +
              in_seconds(e.earliest.time_since_epoch()) + to_string(e.packet, true) +
              "\n  actual:   " + in_seconds(at) + to_string(actual, true));
}

void Verdict::no_packet(const Event& e) const { fail(e, "no packet\n  expected: " + e.text); }

void Verdict::unexpected(const Event& last, const PacketSpec& actual, Duration at) const {
  fail(last, "a packet that the script does not expect\n  actual: " + in_seconds(at) +
                 to_string(actual, true));
}

void Verdict::assertion(const Event& e, const Assertion& a, double left, double right) const {
  if (compare(left, a.op, right)) return;
  fail(e, "assertion failed\n  expected: " + a.left + " " + a.op + " " + a.right +
              "\n  actual:   " + std::to_string(left));
}

}  // namespace postern::script
