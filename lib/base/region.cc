#include "base/region.h"

#include <sys/mman.h>

namespace postern {

namespace {

constexpr size_t kPage = 4096;

// Backs every page. MADV_POPULATE_WRITE (Linux 5.14) does it in one call; without it, a touch each.
void populate(void* data, size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  if (madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
  auto* const page = static_cast<volatile char*>(data);
  for (size_t i = 0; i < bytes; i += kPage) page[i] = 0;
}

}  // namespace

Region::Region(size_t bytes, bool prefault) {
  if (bytes == 0) return;
  bytes = (bytes + kPage - 1) & ~(kPage - 1);
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  data_ = data;
  bytes_ = bytes;
  // Advice: small pages are slower, not wrong.
  (void)madvise(data, bytes, MADV_HUGEPAGE);
  if (prefault) populate(data, bytes);
}

Region::~Region() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace postern
