// The fuzzers' drivers with seeded bytes and with what the fuzzers found, for compilers without
// libFuzzer.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "engine_driver.h"
#include "fragments_driver.h"
#include "pair_driver.h"
#include "stack_driver.h"

namespace {

using Driver = void (*)(const uint8_t*, size_t);  // aborts on a violation

void drive(Driver driver, uint32_t seeds) {
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(64 + random() % 2000);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    driver(bytes.data(), bytes.size());
  }
}

void drive_corpus(Driver driver, const char* target) {
  size_t inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(CORPUS "/") + target)) {
    SCOPED_TRACE(entry.path().filename());
    std::ifstream in(entry.path(), std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(text.empty());
    driver(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    ++inputs;
  }
  EXPECT_GT(inputs, 0U);
}

TEST(SeededFuzz, Engine) { drive(postern::drive_engine, 20000); }
TEST(SeededFuzz, Pair) { drive(postern::drive_pair, 5000); }
TEST(SeededFuzz, Fragments) { drive(postern::drive_fragments, 5000); }
TEST(SeededFuzz, Stack) { drive(postern::drive_stack, 2000); }
TEST(FuzzCorpus, Engine) { drive_corpus(postern::drive_engine, "fuzz_tcp_engine"); }
TEST(FuzzCorpus, Pair) { drive_corpus(postern::drive_pair, "fuzz_tcp_pair"); }
TEST(FuzzCorpus, Fragments) { drive_corpus(postern::drive_fragments, "fuzz_fragments"); }
TEST(FuzzCorpus, Stack) { drive_corpus(postern::drive_stack, "fuzz_stack"); }

}  // namespace
