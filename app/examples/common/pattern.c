#include "common/pattern.h"

#include <string.h>

/* Eight bytes at position 8 * word: the finalizer of SplitMix64. */
static uint64_t pattern_word(uint64_t word) {
  uint64_t z = (word + 1) * UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* The part of the word at `position` that `length` bytes from there have: its size in bytes. */
static size_t piece(uint64_t position, size_t length, uint64_t* word) {
  const unsigned skip = position % 8;
  *word = pattern_word(position / 8) >> (8 * skip);
  return length < 8 - skip ? length : 8 - skip;
}

void pattern_fill(uint64_t position, void* data, size_t length) {
  unsigned char* out = data;
  while (length > 0) {
    uint64_t word;
    const size_t n = piece(position, length, &word);
    memcpy(out, &word, n);
    out += n;
    position += n;
    length -= n;
  }
}

size_t pattern_match(uint64_t position, const void* data, size_t length) {
  const unsigned char* in = data;
  size_t matched = 0;
  while (matched < length) {
    uint64_t word;
    const size_t n = piece(position + matched, length - matched, &word);
    if (memcmp(in + matched, &word, n) != 0) {
      const unsigned char* expected = (const unsigned char*)&word;
      while (in[matched] == *expected++) matched++;
      return matched;
    }
    matched += n;
  }
  return length;
}
