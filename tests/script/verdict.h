// What both players hold against a line of a script. Each of these throws Failure, which says
// where, what was expected and what was seen.
#pragma once

#include <string>

#include "script.h"

namespace postern::script {

struct Failure {
  std::string what;
};

class Verdict {
 public:
  explicit Verdict(std::string path) : path_(std::move(path)) {}

  [[noreturn]] void fail(const Event& e, const std::string& what) const;
  // A call: what it returned, and its errno if that is negative.
  void result(const Event& e, long result, int error) const;
  // A packet, counted as the script counts, at a time since the script's start.
  void packet(const Event& e, const PacketSpec& actual, Duration at, Duration tolerance,
              uint32_t timestamp_ms = 0) const;
  [[noreturn]] void no_packet(const Event& e) const;
  // One that came after the last line.
  [[noreturn]] void unexpected(const Event& last, const PacketSpec& actual, Duration at) const;
  void assertion(const Event& e, const Assertion& a, double left, double right) const;

 private:
  std::string path_;
};

}  // namespace postern::script
