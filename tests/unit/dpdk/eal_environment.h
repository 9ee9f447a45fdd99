// DPDK for tests: ordinary pages, no PCI bus, no root. Started once per process, by the first test
// that asks.
#pragma once

#include "dpdk/eal.h"

namespace postern::test {

inline Eal& eal() {
  static Eal instance([] {
    EalOptions options;
    options.hugepages = HugepageMode::off;
    options.memory = 128 << 20;
    options.file_prefix = "postern-test";
    return options;
  }());
  return instance;
}

}  // namespace postern::test
