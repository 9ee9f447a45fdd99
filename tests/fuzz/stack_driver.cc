#include "stack_driver.h"

#include <memory>

#include "bytes.h"
#include "stack_frames.h"
#include "support/offload_device.h"
#include "support/test_app.h"
#include "wire/group.h"
#include "wire/parse.h"

namespace postern {
namespace {

using test::TestApp;

constexpr size_t kMostFrames = 4000;  // that one step may make the stack send
constexpr size_t kMostSteps = 400;
constexpr uint16_t kTcpPort = 80, kUdpPort = 53;

StackConfig make_config(uint8_t options) {
  StackConfig config;
  InterfaceConfig link;
  link.mac = kStackMac;
  link.addresses = {{kStackAddress4, 24}, {*IpAddress::parse("fd00::1"), 64}};
  link.accept_ra = (options & 1) != 0;
  if ((options & 2) != 0) {
    link.offloads = {
        .ip_checksum = true, .l4_checksum = L4Checksum::device, .tso = (options & 4) != 0};
  }
  InterfaceConfig tagged = link;
  tagged.vlan = kStackVlan;
  tagged.addresses = {{IpAddress::v4(0x0a000701), 24}};
  config.interfaces = {link, tagged};
  config.routes = {{{IpAddress::v4(0), 96}, IpAddress::v4(0x0a0000fe), 0}};
  config.max_connections = 16;
  config.max_udp_sockets = 4;
  config.max_listeners = 4;
  config.max_apps = 1;
  config.neighbors.entries = 8;
  config.neighbors.arp_probes = (options & 8) != 0 ? 3 : 0;
  config.fragments = {.memory = 32 << 10, .memory_of_source = 16 << 10};
  config.tcp.retries = 3;
  config.tcp.orphan_retries = config.tcp.syn_retries = config.tcp.syn_ack_retries = 2;
  config.tcp.receive_buffer = (options & 16) != 0 ? 8000 : 1 << 20;
  config.tcp.syncookies = (options & 32) != 0 ? SynCookies::always : SynCookies::automatic;
  config.tcp.ecn = (options & 64) != 0;
  config.secret = {1, 2, 3, 4};
  return config;
}

class Driver {
 public:
  Driver(const uint8_t* data, size_t size) : in_(data, size), stack_(make_config(in_.byte())) {
    start_app();
  }

  void run() {
    for (size_t i = 0; !in_.done() && i < kMostSteps; ++i) {
      step();
      turn();
    }
    app_->refuse_events = false;
    stop_app();
  }

 private:
  void step() {
    switch (in_.byte() % 8) {
      case 0:
        pass_time();
        break;
      case 1:
      case 2:
        operate();
        break;
      default:
        receive();
    }
  }

  // ---- packets ----

  void receive() {
    bool judged = false;
    const Frame frame = frames_.make(in_, &judged);
    deliver(frame, 0, judged);
  }

  void deliver(const Frame& frame, uint16_t interface, bool judged) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    packet.interface = interface;
    packet.ip_checksum = packet.l4_checksum =
        judged ? ChecksumVerdict::good : ChecksumVerdict::unknown;
    stack_.receive({&packet, 1}, now_);
  }

  void pass_time() {
    const uint8_t b = in_.byte();
    if (b % 4 == 0 && stack_.next_deadline() != kNever) {
      now_ = std::max(now_, stack_.next_deadline());
    } else if (b % 4 == 1) {
      now_ += std::chrono::seconds(in_.byte());
    } else {
      now_ += std::chrono::microseconds(in_.half());
    }
  }

  // What a worker does after each burst, and what must hold then.
  void turn() {
    stack_.advance(now_);
    publish();
    send();
    publish();
    stack_.check_invariants();
    require(app_->complaint().empty(), app_->complaint().c_str());
  }

  void publish() {
    SocketError error;
    while (stack_.take_error(&error)) require(error.error != 0, "an error that is none");
    stack_.publish(64, [this](const AppEvent& event) { return app_->on_event(event); });
  }

  void send() {
    constexpr size_t kFrames = 16, kRoom = 2048;
    static std::byte memory[kFrames * kRoom];
    for (size_t sent = 0; stack_.wants_egress(); ++sent) {
      require(sent < kMostFrames, "it ends to send");
      TxFrame frames[kFrames];
      for (size_t i = 0; i < kFrames; ++i) {
        frames[i].data = memory + i * kRoom;
        frames[i].capacity = kRoom;
      }
      const size_t n = stack_.egress(now_, frames);
      for (size_t i = 0; i < n; i += 1U + (frames[i].tso_mss != 0 ? frames[i].pieces : 0U))
        transmit({frames + i, n - i});
      if (n < kFrames && !stack_.wants_egress()) break;
    }
  }

  void transmit(std::span<const TxFrame> frames) {
    const TxFrame& head = frames.front();
    Frame whole;
    for (const TxFrame& f : frames.first(1U + (head.tso_mss != 0 ? head.pieces : 0U)))
      whole.insert(whole.end(), f.data, f.data + f.length);
    if (head.interface == stack_.loop()) return deliver(whole, head.interface, true);
    for (const Frame& frame : test::as_a_device(whole, head)) {
      RxPacket packet;
      packet.data = frame.data();
      packet.length = static_cast<uint32_t>(frame.size());
      const Drop drop = wire::parse(packet).drop;
      require(drop == Drop::none || (drop == Drop::ip4_bad_source && is_igmp(frame)),
              drop_name(drop).data());
      frames_.seen(frame);
    }
  }

  // RFC 3376 4.2.13: reports come from 0.0.0.0 while there is no address yet.
  static bool is_igmp(const Frame& frame) {
    const size_t ip = frame[12] == std::byte{0x81} ? 18 : 14;
    return frame[ip + 9] == std::byte{wire::kIgmpProtocol};
  }

  // ---- the application ----

  void start_app() {
    app_ = std::make_unique<TestApp>(
        stack_, TestApp::Options{.rx_units = 96, .slots = 24, .client_slots = 12, .tx_ring = 8192});
    listener_ = app_->listen({{}, kTcpPort}, 4);
    datagrams_ = app_->bind({{}, kUdpPort});
    streams_.fill({0, kNoSlot, 0});
  }

  void stop_app() {
    stack_.detach(0, now_, in_.byte() % 2 == 0);
    for (int i = 0; !stack_.released(0); ++i) {
      require(i < 100000, "what is left of an application ends");
      turn();
      if (stack_.next_deadline() != kNever) now_ = std::max(now_, stack_.next_deadline());
    }
    const Stack::AppUsage left = stack_.usage(0);
    require(left.rx_units_used == 0 && left.sockets == 0, "nothing of it is left");
  }

  SocketRef& stream() { return streams_[in_.byte() % streams_.size()]; }
  Endpoint remote() {
    const uint8_t b = in_.byte();
    static const IpAddress kRemotes[] = {IpAddress::v4(0x0a000002),
                                         IpAddress::v4(0xc0000207),
                                         kStackAddress4,
                                         *IpAddress::parse("fd00::2"),
                                         *IpAddress::parse("2001:db8::7"),
                                         *IpAddress::parse("fe80::2"),
                                         IpAddress::v4(0xef010101),
                                         *IpAddress::parse("ff05::101")};
    return {kRemotes[b % 8], static_cast<uint16_t>(b / 8 % 4 == 3 ? kUdpPort : kTcpPort)};
  }

  void operate() {
    switch (in_.byte() % 16) {
      case 0:
      case 1:
        return open();
      case 2:
        return accept();
      case 3:
      case 4:
        return write();
      case 5:
        return read();
      case 6:
        return close();
      case 7:
        return shutdown();
      case 8:
        return option();
      case 9:
      case 10:
        return send_datagram();
      case 11:
        while (app_->receive_from(datagrams_, now_)) continue;
        return;
      case 12:
        return change_group();
      case 13:
        app_->refuse_events = in_.byte() % 4 == 0;
        return;
      case 14:
        if (SocketRef& s = stream(); app_->has(s)) (void)stack_.mark_urgent(s, now_);
        return;
      default:
        if (in_.byte() % 8 == 0) {
          app_->refuse_events = false;
          stop_app();
          start_app();
        }
    }
  }

  void open() {
    SocketRef& s = stream();
    if (app_->has(s)) return;
    s = app_->open(now_);
    if (s.slot != kNoSlot) (void)app_->connect(s, remote(), now_);
  }

  void accept() {
    SocketRef& s = stream();
    if (app_->has(s)) return;
    if (const auto child = app_->accept(listener_, now_)) s = *child;
  }

  [[nodiscard]] bool usable(SocketRef s) { return app_->has(s) && !(*app_)[s].closed; }

  void write() {
    static const std::byte zeros[8192]{};
    SocketRef& s = stream();
    const uint16_t length = in_.half() % 8192;
    if (usable(s) && length != 0) (void)app_->write(s, zeros, length, now_, length % 8 == 0);
  }

  void read() {
    SocketRef& s = stream();
    if (usable(s)) (void)app_->read(s, nullptr, in_.half(), now_);
  }

  void close() {
    SocketRef& s = stream();
    if (usable(s)) (void)app_->close(s, now_, in_.byte() % 4 == 0);
  }

  void shutdown() {
    SocketRef& s = stream();
    const uint8_t how = in_.byte();
    if (usable(s)) (void)stack_.shutdown(s, (how & 1) != 0, (how & 2) != 0, now_);
  }

  void option() {
    const uint8_t b = in_.byte();
    const SocketRef s = b % 4 == 0 ? datagrams_ : b % 4 == 1 ? listener_ : stream();
    const uint32_t value = in_.byte() % 2 == 0 ? in_.byte() : in_.word();
    if (usable(s)) (void)stack_.set_option(s, b / 4 % 26, value, now_);
  }

  void send_datagram() {
    const Endpoint to = remote();
    const uint16_t length = in_.byte() % 4 == 0 ? in_.half() % 4000 : in_.byte();
    if (app_->has(datagrams_) && (*app_)[datagrams_].outstanding() < 4096)
      (void)app_->send_to(datagrams_, to, std::vector<std::byte>(length), now_);
  }

  void change_group() {
    const uint8_t b = in_.byte();
    const IpAddress group =
        (b & 1) != 0 ? *IpAddress::parse("ff05::101") : IpAddress::v4(0xef010101);
    const IpAddress source =
        (b & 1) != 0 ? *IpAddress::parse("fd00::2") : IpAddress::v4(0x0a000002);
    (void)stack_.change_group(datagrams_, static_cast<GroupTable::Change>(b / 2 % 6), group,
                              b / 16 % 2, source, now_);
  }

  Bytes in_;
  Stack stack_;
  StackFrames frames_;
  Time now_{100s};
  std::unique_ptr<TestApp> app_;
  SocketRef listener_, datagrams_;
  std::array<SocketRef, 8> streams_{};
};

}  // namespace

void drive_stack(const uint8_t* data, size_t size) {
  Driver driver(data, size);
  driver.run();
}

}  // namespace postern
