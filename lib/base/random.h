// A small pseudorandom generator as a value: xoshiro256++ (Blackman, Vigna). Not for secrets.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace postern {

// Same seed, same sequence, on every machine. Satisfies UniformRandomBitGenerator.
class Random {
 public:
  using result_type = uint64_t;
  explicit constexpr Random(uint64_t seed) {
    for (uint64_t& word : state_) word = split_mix(&seed);
  }
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return UINT64_MAX; }

  constexpr uint64_t operator()() {
    const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  // Uniform in [0, bound) up to a bias below bound / 2^64; 0 for bound 0.
  constexpr uint64_t below(uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>(static_cast<Wide>((*this)()) * bound >> 64);
  }
  // Uniform in [0, 1).
  constexpr double unit() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }
  // True with the given probability.
  constexpr bool chance(double probability) { return unit() < probability; }

  // One step of SplitMix64 (Steele, Lea, Flood): stretches one seed into many.
  static constexpr uint64_t split_mix(uint64_t* seed) {
    *seed += 0x9e3779b97f4a7c15;
    uint64_t z = *seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  std::array<uint64_t, 4> state_{};
};

}  // namespace postern
