#include "base/checksum.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace postern {

namespace {

constexpr size_t kShort = 192;  // bytes: below, words of 64 bits are cheaper than vectors

// A running sum of words of 64 bits, carries apart.
class Words {
 public:
  explicit Words(uint64_t sum) : sum_(sum) {}
  void add(uint64_t word) {
    sum_ += word;
    carries_ += sum_ < word ? 1 : 0;
  }
  [[nodiscard]] uint32_t folded() const {
    const uint64_t sum = sum_ + carries_;
    return checksum_fold64(sum + (sum < carries_ ? 1 : 0));
  }

 private:
  uint64_t sum_;
  uint64_t carries_ = 0;
};

// Adds, and with kCopy also copies, fewer than 8 bytes, the last of them alone if n is odd, then
// padded with zero (RFC 1071 1).
template <bool kCopy>
uint64_t take_few(const std::byte* src, [[maybe_unused]] std::byte* dst, size_t n) {
  uint64_t word = 0;
  if (n == 0) return word;
  std::memcpy(&word, src, n);
  if constexpr (kCopy) std::memcpy(dst, src, n);
  return word;
}

// Adds, and with kCopy also copies, n bytes.
template <bool kCopy>
uint32_t add_words(const std::byte* src, [[maybe_unused]] std::byte* dst, size_t n, uint64_t sum) {
  static_assert(std::endian::native == std::endian::little);
  Words words(sum);
  const auto step = [&](ptrdiff_t at) {
    uint64_t word;
    std::memcpy(&word, src + at, sizeof word);
    if constexpr (kCopy) std::memcpy(dst + at, &word, sizeof word);
    return word;
  };
  if (n < 8) {
    words.add(take_few<kCopy>(src, dst, n));
    return words.folded();
  }
  const auto pass = [&](size_t bytes) {
    src += bytes;
    if constexpr (kCopy) dst += bytes;
  };
  for (; n >= 32; n -= 32, pass(32)) {
    for (ptrdiff_t at = 0; at < 32; at += 8) words.add(step(at));
  }
  if ((n & 16) != 0) {
    words.add(step(0));
    words.add(step(8));
    pass(16);
  }
  if ((n & 8) != 0) {
    words.add(step(0));
    pass(8);
  }
  // The last few, behind bytes that are in already.
  n &= 7;
  if (n != 0) words.add(step(static_cast<ptrdiff_t>(n) - 8) >> (64 - 8 * n));
  return words.folded();
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

uint32_t checksum_add(std::span<const std::byte> data, uint64_t sum) noexcept {
  const std::byte* p = data.data();
  size_t n = data.size();
  std::byte* none = nullptr;
  if (n >= kShort) {
    sum = uint64_t{checksum_fold64(sum)} + checksum_fold64(add_blocks<false>(p, none, n));
  }
  return add_words<false>(p, none, n, sum);
}

uint32_t copy_and_checksum(std::byte* dst, const std::byte* src, size_t n, uint64_t sum) noexcept {
  if (n >= kShort) {
    sum = uint64_t{checksum_fold64(sum)} + checksum_fold64(add_blocks<true>(src, dst, n));
  }
  return add_words<true>(src, dst, n, sum);
}

}  // namespace postern
