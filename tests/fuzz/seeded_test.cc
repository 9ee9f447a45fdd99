// The fuzzers' drivers with seeded bytes, for compilers without libFuzzer.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "engine_driver.h"

namespace {

void drive(void (*driver)(const uint8_t*, size_t), uint32_t seeds) {
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(64 + random() % 2000);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    driver(bytes.data(), bytes.size());  // aborts on a violation
  }
}

TEST(SeededFuzz, Engine) { drive(postern::drive_engine, 20000); }

}  // namespace
