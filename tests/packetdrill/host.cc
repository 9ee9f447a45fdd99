#include "host.h"

#include <sys/time.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>

#include "tcp/congestion.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::packetdrill {
namespace {

constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}};
constexpr MacAddress kPeers{{2, 0, 0, 0, 0, 2}};
constexpr size_t kEthernet = 14;
constexpr size_t kFrames = 32;
constexpr size_t kFrameSize = 10240;

long long wall_clock_usecs() {
  timeval t;
  gettimeofday(&t, nullptr);
  return t.tv_sec * 1'000'000LL + t.tv_usec;
}

IpAddress parse_address(const std::string& text) {
  const auto address = IpAddress::parse(text);
  if (!address.has_value()) throw std::invalid_argument("not an address: " + text);
  return *address;
}

// A router on the network of `local`: all that packetdrill plays is behind it.
IpAddress router_beside(const IpAddress& local) {
  const uint32_t value = local.v4_value();
  return IpAddress::v4((value & ~255U) | ((value & 255) == 254 ? 253 : 254));
}

void apply(Settings& s, const std::string& key, const std::string& value) {
  const auto number = static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 0));
  if (key == "local") {
    s.local = parse_address(value);
  } else if (key == "mtu") {
    s.mtu = static_cast<uint16_t>(number);
  } else if (key == "wait") {
    s.wait = std::chrono::seconds(number);
  } else if (key == "congestion") {
    const size_t index = find_congestion(value);
    if (index == kCongestionCount) throw std::invalid_argument("unknown congestion=" + value);
    s.tcp.congestion = static_cast<uint8_t>(index);
  } else if (key == "timestamps") {
    s.tcp.timestamps = number != 0;
  } else if (key == "sack") {
    s.tcp.sack = number != 0;
  } else if (key == "ecn") {
    s.tcp.ecn = number != 0;
  } else if (key == "window_scaling") {
    s.tcp.window_scaling = number != 0;
  } else if (key == "receive_buffer") {
    s.tcp.receive_buffer = number;
  } else if (key == "initial_window") {
    s.tcp.initial_window = static_cast<uint16_t>(number);
  } else {
    throw std::invalid_argument("unknown flag " + key);
  }
}

}  // namespace

Settings parse_settings(const char* flags) {
  Settings s;
  std::string text = flags == nullptr ? "" : flags;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string one = text.substr(0, comma);
    text = comma == std::string::npos ? "" : text.substr(comma + 1);
    const size_t equals = one.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("expected key=value: " + one);
    apply(s, one.substr(0, equals), one.substr(equals + 1));
  }
  return s;
}

Host::~Host() {
  {
    const Lock held = lock();
    ending_ = true;
    changed_.notify_all();
  }
  if (timers_.joinable()) timers_.join();
}

Time Host::now() {
  return Time(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

Host::Host(const Settings& settings) : settings_(settings), memory_(kFrames * kFrameSize) {
  build();
  timers_ = std::thread([this] { run_timers(); });
}

void Host::use_address(const IpAddress& local) {
  if (used_) return;
  used_ = true;
  if (local == settings_.local) return;
  settings_.local = local;
  build();
}

void Host::build() {
  app_.reset();
  stack_.reset();
  StackConfig config;
  InterfaceConfig interface;
  interface.mac = kOurs;
  interface.mtu = settings_.mtu;
  interface.addresses = {{settings_.local, 24}};
  config.interfaces = {interface};
  RouteConfig everything;
  everything.destination = *Prefix::parse("0.0.0.0/0");
  everything.gateway = router_beside(settings_.local);
  config.routes = {everything};
  config.tcp = settings_.tcp;
  config.max_connections = 64;
  config.max_udp_sockets = 4;
  config.max_listeners = 8;
  config.max_apps = 1;
  config.neighbors.entries = 16;
  std::random_device random;
  for (uint64_t& word : config.secret) word = uint64_t{random()} << 32 | random();
  stack_ = std::make_unique<Stack>(config);
  test::TestApp::Options options;
  options.rx_units = 4096;  // 8 MiB
  options.tx_ring = kSendBuffer;
  options.slots = 32;
  options.client_slots = 16;
  app_ = std::make_unique<test::TestApp>(*stack_, options);
  turn();
}

void Host::turn() {
  for (int round = 0; round < 64; ++round) {
    stack_->advance(now());
    stack_->publish(256, [this](const AppEvent& event) { return app_->on_event(event); });
    std::array<TxFrame, kFrames> frames;
    for (size_t i = 0; i < kFrames; ++i) {
      frames[i].data = memory_.data() + i * kFrameSize;
      frames[i].capacity = kFrameSize;
    }
    const size_t n = stack_->egress(now(), frames);
    for (size_t i = 0; i < n; ++i) from_stack(frames[i]);
    if (n == 0 && !stack_->wants_publish()) break;
  }
  changed_.notify_all();
}

void Host::sleep_until(Lock& lock, Time deadline) {
  const Duration left = std::min<Duration>(deadline - now(), 1h);
  changed_.wait_for(lock, left);
}

void Host::run_timers() {
  Lock held = lock();
  while (!ending_) {
    const Time next = stack_->next_deadline();
    if (next <= now()) {
      turn();
    } else {
      sleep_until(held, next);
    }
  }
}

void Host::from_stack(const TxFrame& frame) {
  if (frame.protocol == 0) return answer_arp(frame);
  sent_.push_back({{frame.data + kEthernet, frame.data + frame.length}, wall_clock_usecs()});
}

void Host::answer_arp(const TxFrame& frame) {
  constexpr size_t kSenderAddress = 14, kTargetAddress = 24;  // RFC 826
  const std::byte* arp = frame.data + kEthernet;
  uint32_t sender, target;
  std::memcpy(&sender, arp + kSenderAddress, 4);
  std::memcpy(&target, arp + kTargetAddress, 4);
  if (sender == target || arp[7] != std::byte{wire::ArpPacket::kRequest}) return;  // announcement
  std::vector<std::byte> reply(kEthernet + 28);
  std::byte* p = reply.data();
  p += wire::write_ethernet(p, kOurs, kPeers, wire::ether_type::arp);
  wire::write_arp(p, {wire::ArpPacket::kReply, kPeers, IpAddress::v4(be32toh(target)), kOurs,
                      IpAddress::v4(be32toh(sender))});
  to_stack(reply);
}

void Host::to_stack(const std::vector<std::byte>& frame) {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  stack_->receive({&packet, 1}, now());
}

void Host::receive(const void* packet, size_t length) {
  const auto* bytes = static_cast<const std::byte*>(packet);
  if (!used_ && length >= 20) {
    uint32_t destination;
    std::memcpy(&destination, bytes + 16, 4);
    use_address(IpAddress::v4(be32toh(destination)));
  }
  std::vector<std::byte> frame(kEthernet + length);
  wire::write_ethernet(frame.data(), kOurs, kPeers, wire::ether_type::ipv4);
  std::memcpy(frame.data() + kEthernet, bytes, length);
  to_stack(frame);
  turn();
}

std::optional<Host::Packet> Host::next_packet(Lock& lock) {
  if (!wait(lock, now() + settings_.wait, [this] { return !sent_.empty(); })) return std::nullopt;
  Packet packet = std::move(sent_.front());
  sent_.pop_front();
  return packet;
}

}  // namespace postern::packetdrill
