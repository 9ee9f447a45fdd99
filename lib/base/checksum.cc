#include "base/checksum.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace postern {

namespace {

constexpr uint32_t fold64(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  return static_cast<uint32_t>(sum);
}

template <class T>
uint64_t take(const std::byte*& p) {
  T word;
  std::memcpy(&word, p, sizeof word);
  p += sizeof word;
  return word;
}

// Adds n < 32 bytes, the last of them alone if n is odd, then padded with zero (RFC 1071 1).
uint64_t add_tail(const std::byte* p, size_t n, uint64_t sum) {
  if ((n & 16) != 0) {
    sum += take<uint32_t>(p);
    sum += take<uint32_t>(p);
    sum += take<uint32_t>(p);
    sum += take<uint32_t>(p);
  }
  if ((n & 8) != 0) {
    sum += take<uint32_t>(p);
    sum += take<uint32_t>(p);
  }
  if ((n & 4) != 0) sum += take<uint32_t>(p);
  if ((n & 2) != 0) sum += take<uint16_t>(p);
  if ((n & 1) != 0) sum += take<uint8_t>(p);
  return sum;
}

#ifdef __AVX2__

// Running sums in four 64-bit lanes. Each 32-bit word of the data is added as a word of one: the
// one's complement sum of 32-bit words folds to that of 16-bit words.
class Lanes {
 public:
  void add(__m256i data) {
    const __m256i low = _mm256_and_si256(data, _mm256_set1_epi64x(0xffffffff));
    even_ = _mm256_add_epi64(even_, low);
    odd_ = _mm256_add_epi64(odd_, _mm256_srli_epi64(data, 32));
  }
  [[nodiscard]] uint64_t total() const {
    const __m256i sum = _mm256_add_epi64(even_, odd_);
    const __m128i half =
        _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(half)) +
           static_cast<uint64_t>(_mm_extract_epi64(half, 1));
  }

 private:
  __m256i even_ = _mm256_setzero_si256();
  __m256i odd_ = _mm256_setzero_si256();
};

__m256i load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

#endif

// Adds, and with kCopy also copies, all 32-byte blocks; advances the pointers. Lanes of 64 bits
// cannot overflow below 2^32 blocks.
template <bool kCopy>
uint64_t add_blocks(const std::byte*& src, [[maybe_unused]] std::byte*& dst, size_t& n) {
  uint64_t sum = 0;
#ifdef __AVX2__
  Lanes a;
  Lanes b;
  const auto step = [&](Lanes& lanes, size_t at) {
    const __m256i data = load(src + at);
    if constexpr (kCopy) _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + at), data);
    lanes.add(data);
  };
  for (; n >= 64; n -= 64) {
    step(a, 0);
    step(b, 32);
    src += 64;
    if constexpr (kCopy) dst += 64;
  }
  if (n >= 32) {
    step(a, 0);
    src += 32;
    if constexpr (kCopy) dst += 32;
    n -= 32;
  }
  sum = a.total() + b.total();
#else
  for (; n >= 32; n -= 32) {
    uint32_t words[8];
    std::memcpy(words, src, 32);
    if constexpr (kCopy) std::memcpy(dst, words, 32);
    for (const uint32_t word : words) sum += word;
    src += 32;
    if constexpr (kCopy) dst += 32;
  }
#endif
  return sum;
}

}  // namespace

uint32_t checksum_add(std::span<const std::byte> data, uint32_t sum) noexcept {
  const std::byte* p = data.data();
  size_t n = data.size();
  std::byte* none = nullptr;
  const uint64_t blocks = n >= 32 ? add_blocks<false>(p, none, n) : 0;
  return fold64(add_tail(p, n, fold64(blocks) + uint64_t{sum}));
}

uint32_t copy_and_checksum(std::byte* dst, const std::byte* src, size_t n, uint32_t sum) noexcept {
  const uint64_t blocks = n >= 32 ? add_blocks<true>(src, dst, n) : 0;
  if (n > 0) std::memcpy(dst, src, n);
  return fold64(add_tail(src, n, fold64(blocks) + uint64_t{sum}));
}

}  // namespace postern
