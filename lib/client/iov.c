#include <limits.h>

#include "client/internal.h"

enum direction { READ, WRITE };

static void step(struct iter* it, char* at, size_t n, enum direction direction) {
  while (n != 0) {
    const size_t left = it->vec->iov_len - it->offset;
    const size_t k = n < left ? n : left;
    char* mine = (char*)it->vec->iov_base + it->offset;
    if (k != 0 && direction == READ) memcpy(at, mine, k);
    if (k != 0 && direction == WRITE) memcpy(mine, at, k);
    at += k;
    n -= k;
    it->offset += k;
    if (it->offset == it->vec->iov_len && it->count > 1) {
      ++it->vec;
      --it->count;
      it->offset = 0;
    }
  }
}

void iter_read_pieces(struct iter* it, void* to, size_t n) { step(it, to, n, READ); }

void iter_write(struct iter* it, const void* from, size_t n) {
  step(it, (char*)(uintptr_t)from, n, WRITE); /* read only in this direction */
}

ssize_t iov_total(const struct iovec* vec, size_t count) {
  if (count > IOV_MAX) return fail(EMSGSIZE);
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    if (vec[i].iov_len > (size_t)SSIZE_MAX - total) return fail(EINVAL);
    total += vec[i].iov_len;
  }
  return (ssize_t)total;
}
