// The fuzzer's driver with seeded bytes, for compilers without libFuzzer.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "engine_driver.h"

namespace {

TEST(TcpEngineFuzz, SeededBytes) {
  for (uint32_t seed = 0; seed < 20000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(64 + random() % 2000);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    postern::drive_engine(bytes.data(), bytes.size());  // aborts on a violation
  }
}

}  // namespace
