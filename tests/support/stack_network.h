// Two stacks joined by a wire in memory, in virtual time. Everything follows from a seed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "support/test_app.h"

namespace postern::test {

struct WireOptions {
  Duration delay = 20us;                                     // one way
  double loss = 0, duplicate = 0, reorder = 0, corrupt = 0;  // probabilities
  Duration reorder_delay = 200us;
};

inline constexpr IpAddress kAddress[2] = {IpAddress::v4(0x0a000001), IpAddress::v4(0x0a000002)};
inline constexpr MacAddress kMac[2] = {{{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}};

// 10.0.0.1/24 and 10.0.0.2/24, one interface each.
StackConfig default_config(int side);

class StackNetwork {
 public:
  explicit StackNetwork(uint64_t seed = 1, const StackConfig& first = default_config(0),
                        const StackConfig& second = default_config(1));

  Stack& stack(int side) { return *stacks_[side]; }
  // An application attached to that side; lives as long as the network.
  TestApp& add_app(int side, TestApp::Options options = {});

  // Runs until `done` holds (looked at after every turn) or `limit` has passed; whether it held.
  bool run(const std::function<bool()>& done, Duration limit = 60s);
  void run_for(Duration time);
  [[nodiscard]] Time now() const { return now_; }

  WireOptions wire;
  size_t frames_at_once = 32;  // offered to Stack::egress
  // Called after each turn of a side, for applications that react.
  std::function<void(int side)> on_turn;
  // Sees each frame as it is sent; false takes it off the wire.
  std::function<bool(int from, const std::vector<std::byte>& frame)> tap;
  // Puts a frame on the wire towards `to`, at once.
  void inject(int to, std::vector<std::byte> frame);

  // First complaint: an application's, or a frame that does not parse.
  [[nodiscard]] std::string complaint() const;
  [[nodiscard]] uint64_t frames(int from) const { return frames_[from]; }  // on the wire
  [[nodiscard]] uint64_t handed_over(int from) const {
    return handed_over_[from];
  }  // to the device
  [[nodiscard]] size_t most_pieces(int from) const { return most_pieces_[from]; }
  [[nodiscard]] uint64_t counter(int side, Counter c) { return stack(side).counters().get(c); }
  [[nodiscard]] uint64_t drops(int side, Drop d) { return stack(side).counters().get(d); }

 private:
  struct Packet {
    int to;
    std::vector<std::byte> bytes;
    uint16_t interface = 0;
    ChecksumVerdict ip_checksum = ChecksumVerdict::unknown;
    ChecksumVerdict l4_checksum = ChecksumVerdict::unknown;
  };
  bool turn(int side);
  bool receive(int side);
  bool transmit(int side);
  bool publish(int side);
  void send(int side, std::span<const TxFrame> frames);
  void carry(int from, std::vector<std::byte> frame);
  void loop(int side, std::vector<std::byte> frame);
  [[nodiscard]] Time next_event() const;

  Random random_;
  Time now_{1s};
  std::array<std::unique_ptr<Stack>, 2> stacks_;
  std::array<std::vector<std::unique_ptr<TestApp>>, 2> apps_;
  std::array<StackConfig, 2> configs_;
  std::multimap<Time, Packet> in_flight_;
  std::array<uint64_t, 2> frames_{};
  std::array<uint64_t, 2> handed_over_{};
  std::array<size_t, 2> most_pieces_{};
  std::string complaint_;
};

}  // namespace postern::test
