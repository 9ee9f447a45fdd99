// A worker's port whose wire ends in this process: what is sent into it the worker receives in its
// next turn. Over net_ring, so that the device costs next to nothing and always the same.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dpdk/compat.h"
#include "dpdk/eal.h"
#include "dpdk/pool.h"
#include "dpdk/port.h"
#include "wire/packet.h"

namespace postern::perf {

class Wire {
 public:
  // `name`: of its own in the process. `vouched`: the device says that checksums are right, as a
  // card does.
  Wire(const std::string& name, bool vouched);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  [[nodiscard]] Port& port() { return *port_; }
  void send(const std::byte* frame, uint32_t length);
  // Takes up to 64 frames that the worker sent; views, valid until the next call.
  std::span<const RxPacket> receive();

 private:
  static constexpr size_t kBurst = 64;
  bool vouched_;
  PacketPool pool_;
  rte_ring* in_;
  rte_ring* out_;
  std::unique_ptr<Port> port_;
  std::vector<rte_mbuf*> held_;
  std::vector<RxPacket> views_;
};

}  // namespace postern::perf
