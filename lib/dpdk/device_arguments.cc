#include "dpdk/device_arguments.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "dpdk/compat.h"

namespace postern {
namespace {

// The kernel's idea of it, 0 if it will not say.
uint32_t interface_mtu(const std::string& interface) {
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool ok = fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0;
  if (fd >= 0) ::close(fd);
  return ok ? static_cast<uint32_t>(request.ifr_mtu) : 0;
}

}  // namespace

std::string argument(std::string_view arguments, std::string_view key) {
  while (!arguments.empty()) {
    const size_t comma = arguments.find(',');
    const std::string_view item = arguments.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals != std::string_view::npos && item.substr(0, equals) == key) {
      return std::string(item.substr(equals + 1));
    }
    arguments = comma == std::string_view::npos ? "" : arguments.substr(comma + 1);
  }
  return {};
}

uint32_t af_packet_slot(uint16_t mtu) {
  const uint32_t need = uint32_t{mtu} + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN + TPACKET2_HDRLEN + 16;
  return need <= 2048 ? 2048 : RTE_ALIGN_CEIL(need, 4096U);
}

void complete_af_packet(const PortOptions& options, std::string& arguments) {
  const auto add = [&arguments](std::string_view key, uint64_t value) {
    if (argument(arguments, key).empty()) {
      arguments += "," + std::string(key) + "=" + std::to_string(value);
    }
  };
  const std::string interface = argument(arguments, "iface");
  if (interface.empty()) throw DpdkError("iface= is missing; write net_af_packet0,iface=NAME");
  if (if_nametoindex(interface.c_str()) == 0) {
    throw DpdkError("there is no network interface '" + interface + "'; `ip link` lists them");
  }
  const uint32_t mtu = interface_mtu(interface);
  if (mtu < options.mtu) {
    throw DpdkError("the interface " + interface + " has an MTU of " + std::to_string(mtu) +
                    "; ip link set " + interface + " mtu " + std::to_string(options.mtu));
  }
  const std::string pairs = argument(arguments, "qpairs");
  if (!pairs.empty() && pairs != std::to_string(options.queues)) {
    // The kernel spreads packets over all of them; those of a queue that nobody reads are lost.
    throw DpdkError("qpairs=" + pairs + " but there are " + std::to_string(options.queues) +
                    " workers; leave qpairs out");
  }
  add("qpairs", options.queues);
  const uint32_t slot = af_packet_slot(options.mtu);
  add("framesz", slot);
  add("blocksz", std::max(slot, 4096U));
  add("framecnt", std::max<uint32_t>(options.rx_descriptors, 2));
}

void complete_memif(uint32_t frame, std::string& arguments) {
  constexpr uint32_t kDefault = 2048;
  if (frame <= kDefault || argument(arguments, "role") != "client") return;
  if (!argument(arguments, "bsize").empty()) return;
  arguments += ",bsize=" + std::to_string(RTE_ALIGN_CEIL(frame, uint32_t{RTE_CACHE_LINE_SIZE}));
}

}  // namespace postern
