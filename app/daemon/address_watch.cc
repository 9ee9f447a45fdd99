#include "daemon/address_watch.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

#include "control/log.h"
#include "daemon/tap.h"

namespace postern {
namespace {

constexpr auto kInterval = std::chrono::seconds(1);

struct Listed {
  size_t count = 0;
  std::array<AddressInfo, 1024> info;
};

bool usable(const AddressInfo& a) {
  const std::string_view state = a.state;
  return state == "preferred" || state == "deprecated";
}

// What is not in the configuration, by interface.
std::vector<std::vector<Prefix>> learned_of(const std::vector<InterfaceEntry>& interfaces,
                                            const Listed& listed) {
  std::vector<std::vector<Prefix>> out(interfaces.size());
  for (size_t i = 0; i < listed.count; ++i) {
    const AddressInfo& a = listed.info[i];
    const auto& own = interfaces[a.interface].addresses;
    const bool configured = std::find(own.begin(), own.end(), a.address) != own.end();
    if (!configured && usable(a)) out[a.interface].push_back(a.address);
  }
  return out;
}

}  // namespace

AddressWatch::AddressWatch(boost::asio::io_context& io, const Config& config, WorkerCalls& calls,
                           Applications& applications)
    : config_(config),
      calls_(calls),
      applications_(applications),
      interfaces_(interfaces_of(config.ports)),
      timer_(io),
      learned_(interfaces_.size()) {
  const auto listens = [](const InterfaceEntry& interface) { return interface.ipv6.accept_ra; };
  if (std::any_of(interfaces_.begin(), interfaces_.end(), listens)) wait();
}

void AddressWatch::stop() {
  stopped_ = true;
  timer_.cancel();
}

void AddressWatch::wait() {
  timer_.expires_after(kInterval);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) look();
  });
}

void AddressWatch::look() {
  auto listed = std::make_shared<Listed>();
  calls_.post(
      0,
      [listed = listed.get()](Worker& worker) noexcept {
        listed->count = worker.stack().list_addresses(listed->info);
        return 0;
      },
      [this, listed](int) {
        if (stopped_) return;
        auto learned = learned_of(interfaces_, *listed);
        if (learned != learned_) apply(std::move(learned));
        wait();
      });
}

void AddressWatch::apply(std::vector<std::vector<Prefix>> learned) {
  std::vector<IpAddress> ours;
  for (size_t i = 0; i < learned.size(); ++i) {
    const InterfaceEntry& interface = interfaces_[i];
    for (const Prefix& prefix : interface.addresses) ours.push_back(prefix.address);
    for (const Prefix& prefix : learned[i]) ours.push_back(prefix.address);
    if (learned[i] == learned_[i]) continue;
    std::string text;
    for (const Prefix& prefix : learned[i]) text += ' ' + prefix.to_string();
    spdlog::info("port {}: addresses from routers:{}", interface.name,
                 text.empty() ? " none" : text);
    const auto& exception = config_.ports[interface.port].exception;
    if (exception && interface.vlan == 0) change_addresses(exception->tap, learned_[i], learned[i]);
  }
  applications_.set_addresses(std::move(ours));
  learned_ = std::move(learned);
}

}  // namespace postern
