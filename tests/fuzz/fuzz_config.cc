// libFuzzer target: any bytes as the configuration. It is accepted within its limits, or refused
// with one line that says where and what.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "bytes.h"
#include "control/config.h"

namespace {

using namespace postern;

Machine machine() {
  Machine m;
  m.cores = {0, 1, 2, 3};
  m.user = [](const std::string& name) {
    return name == "nobody" ? std::optional<uint32_t>(65534) : std::nullopt;
  };
  m.group = m.user;
  return m;
}

void check(const Config& c) {
  require(!c.ports.empty() && !c.cores.empty(), "there are ports and cores");
  for (const PortConfig& p : c.ports) {
    require(!p.name.empty() && !p.device.empty() && !p.addresses.empty(), "a port is complete");
    require(p.mtu >= 576 && p.mtu <= 9000, "the MTU is within its limits");
  }
  for (const AccessRule& r : c.access) {
    require(r.uid.has_value() || r.gid.has_value(), "a rule names somebody");
    require((r.sockets & (r.sockets - 1)) == 0, "sockets: is a power of two");
    for (const PortRange& p : r.bind) require(p.first <= p.last, "a port range is not empty");
  }
  require(c.tcp.rto_min <= c.tcp.rto_max, "the limits of the RTO are in order");
  for (const double p : {c.impair.loss, c.impair.duplicate, c.impair.reorder, c.impair.corrupt}) {
    require(p >= 0 && p <= 1, "a probability");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("config", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  static const Machine here = machine();
  require(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == static_cast<ssize_t>(size),
          "the file can be written");
  try {
    check(load_config(path, here));
  } catch (const ConfigError& e) {
    const std::string text = e.what();
    require(text.rfind(path + ":", 0) == 0, "an error says where");
    // A name that the file spells with a line break is quoted as it is.
    const bool breaks = std::count(data, data + size, '\n') != 0 ||
                        std::count(data, data + size, '\\') != 0 ||
                        std::count(data, data + size, '\r') != 0;
    require(breaks || text.find('\n') == std::string::npos, "an error is one line");
  }
  return 0;
}
