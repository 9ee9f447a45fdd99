// The receive chunk as the pure stack writes it; shmsock.h has the same layout for the client and
// the data plane asserts that they agree.
#pragma once

#include <cstdint>

namespace postern {

inline constexpr uint32_t kChunkUnit = 2048;      // bytes
inline constexpr uint32_t kChunkLargeUnits = 32;  // 64 KiB

struct ChunkHeader {
  uint32_t next;      // unit index of the successor, 0: none; stored with release order
  uint32_t capacity;  // payload bytes after this header
  uint32_t start;     // stream position of the first payload byte
  uint32_t units;
};
static_assert(sizeof(ChunkHeader) == 16);

}  // namespace postern
