#include "support/stack_network.h"

#include <algorithm>

#include "support/offload_device.h"
#include "wire/parse.h"

namespace postern::test {

StackConfig default_config(int side) {
  StackConfig config;
  InterfaceConfig interface;
  interface.mac = kMac[side];
  interface.addresses = {{kAddress[side], 24}};
  config.interfaces = {interface};
  config.max_connections = 1024;
  config.max_udp_sockets = 64;
  config.max_listeners = 16;
  config.max_apps = 4;
  config.neighbors.entries = 64;
  for (size_t i = 0; i < config.secret.size(); ++i) {
    config.secret[i] = 0x1234567 * (i + 1) + static_cast<uint64_t>(side);
  }
  return config;
}

StackNetwork::StackNetwork(uint64_t seed, const StackConfig& first, const StackConfig& second)
    : random_(seed),
      stacks_{std::make_unique<Stack>(first), std::make_unique<Stack>(second)},
      configs_{first, second} {}

TestApp& StackNetwork::add_app(int side, TestApp::Options options) {
  options.id = static_cast<AppId>(apps_[side].size());
  apps_[side].push_back(std::make_unique<TestApp>(*stacks_[side], options));
  return *apps_[side].back();
}

std::string StackNetwork::complaint() const {
  for (const auto& side : apps_) {
    for (const auto& app : side) {
      if (!app->complaint().empty()) return app->complaint();
    }
  }
  return complaint_;
}

void StackNetwork::inject(int to, std::vector<std::byte> frame) {
  in_flight_.emplace(now_, Packet{to, std::move(frame)});
}

void StackNetwork::carry(int from, std::vector<std::byte> frame) {
  ++frames_[from];
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  if (configs_[from].interfaces[0].offloads.l4_checksum == L4Checksum::none) {
    packet.l4_checksum = ChecksumVerdict::unchecked;
  }
  const Drop verdict = wire::parse(packet).drop;
  if (verdict != Drop::none && complaint_.empty()) {
    complaint_ = "sent a bad frame: " + std::string(drop_name(verdict));
  }
  if (tap && !tap(from, frame)) return;
  if (random_.chance(wire.loss)) return;
  if (random_.chance(wire.corrupt)) {
    frame[random_.below(frame.size())] ^= static_cast<std::byte>(1 + random_.below(255));
  }
  Time at = now_ + wire.delay;
  if (random_.chance(wire.reorder)) at += wire.reorder_delay;
  if (random_.chance(wire.duplicate))
    in_flight_.emplace(at + 3us,
                       Packet{1 - from, frame, 0, ChecksumVerdict::unknown, packet.l4_checksum});
  in_flight_.emplace(
      at, Packet{1 - from, std::move(frame), 0, ChecksumVerdict::unknown, packet.l4_checksum});
}

// As the worker does it: nothing happens to it on the way, and its checksums are not looked at.
void StackNetwork::loop(int side, std::vector<std::byte> frame) {
  in_flight_.emplace(now_, Packet{side, std::move(frame), stacks_[side]->loop(),
                                  ChecksumVerdict::good, ChecksumVerdict::good});
}

bool StackNetwork::receive(int side) {
  std::vector<Packet> due;
  for (auto it = in_flight_.begin(); it != in_flight_.end() && it->first <= now_;) {
    if (it->second.to != side) {
      ++it;
      continue;
    }
    due.push_back(std::move(it->second));
    it = in_flight_.erase(it);
  }
  std::vector<RxPacket> burst(due.size());
  for (size_t i = 0; i < due.size(); ++i) {
    burst[i].data = due[i].bytes.data();
    burst[i].length = static_cast<uint32_t>(due[i].bytes.size());
    burst[i].interface = due[i].interface;
    burst[i].ip_checksum = due[i].ip_checksum;
    burst[i].l4_checksum = due[i].l4_checksum;
  }
  if (!burst.empty()) stacks_[side]->receive(burst, now_);
  return !burst.empty();
}

// Through the device: one frame after the other, those in several buffers joined.
void StackNetwork::send(int side, std::span<const TxFrame> frames) {
  while (!frames.empty()) {
    const TxFrame& head = frames.front();
    const size_t pieces = head.tso_mss != 0 ? head.pieces : 0;
    std::vector<std::byte> bytes;
    for (const TxFrame& f : frames.first(1 + pieces)) {
      bytes.insert(bytes.end(), f.data, f.data + f.length);
      if (f.payload != nullptr) bytes.insert(bytes.end(), f.payload, f.payload + f.payload_length);
    }
    most_pieces_[side] = std::max(most_pieces_[side], pieces);
    if (head.interface == stacks_[side]->loop()) {
      loop(side, std::move(bytes));
    } else {
      ++handed_over_[side];
      for (auto& frame : as_a_device(std::move(bytes), head)) carry(side, std::move(frame));
    }
    frames = frames.subspan(1 + pieces);
  }
}

bool StackNetwork::transmit(int side) {
  constexpr size_t kFrames = 32;
  const size_t kSize = configs_[side].interfaces[0].offloads.tso ? 2048 : 10240;
  static std::vector<std::byte> memory(kFrames * 10240);
  bool any = false;
  for (int rounds = 0; rounds < 64; ++rounds) {
    std::array<TxFrame, kFrames> frames;
    for (size_t i = 0; i < kFrames; ++i) {
      frames[i].data = memory.data() + i * kSize;
      frames[i].capacity = kSize;
    }
    const std::span<TxFrame> room(frames.data(), std::min(kFrames, frames_at_once));
    const size_t n = stacks_[side]->egress(now_, room);
    send(side, room.first(n));
    any = any || n != 0;
    if (n < room.size() && !stacks_[side]->wants_egress()) break;
  }
  return any;
}

bool StackNetwork::publish(int side) {
  bool any = false;
  if (!stacks_[side]->wants_publish()) return false;
  stacks_[side]->publish(256, [&](const AppEvent& event) {
    const bool taken = apps_[side].at(event.socket.app)->on_event(event);
    any = any || taken;
    return taken;
  });
  return any;
}

bool StackNetwork::turn(int side) {
  bool busy = receive(side);
  stacks_[side]->advance(now_);
  busy = publish(side) || busy;
  if (on_turn) on_turn(side);
  busy = transmit(side) || busy;
  return publish(side) || busy;
}

Time StackNetwork::next_event() const {
  Time next = in_flight_.empty() ? kNever : in_flight_.begin()->first;
  for (const auto& stack : stacks_) next = std::min(next, stack->next_deadline());
  return next;
}

bool StackNetwork::run(const std::function<bool()>& done, Duration limit) {
  const Time end = now_ + limit;
  while (now_ <= end) {
    for (bool busy = true; busy;) {
      busy = turn(0);
      busy = turn(1) || busy;
      if (done()) return true;
    }
    const Time next = next_event();
    if (next == kNever) break;
    now_ = std::max(next, now_ + 1us);
  }
  now_ = end;  // no turn has seen a later time
  return done();
}

void StackNetwork::run_for(Duration time) {
  const Time end = now_ + time;
  run([] { return false; }, time);
  now_ = end;
}

}  // namespace postern::test
