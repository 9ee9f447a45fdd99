/* SHA-256 (FIPS 180-4), so that what a program received can be compared with sha256sum(1). */
#ifndef EXAMPLES_SHA256_H
#define EXAMPLES_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
  uint32_t state[8];
  uint64_t length; /* bytes so far */
  unsigned char block[64];
};

void sha256_init(struct sha256* hash);
void sha256_add(struct sha256* hash, const void* data, size_t length);
/* Writes 64 hexadecimal digits and a zero. The hash must be initialised again before further use.
 */
void sha256_finish(struct sha256* hash, char text[65]);

#endif
