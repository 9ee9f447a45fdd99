/* Test data whose every byte follows from its position in the stream, so that loss, repetition and
 * misplacement show wherever the data is cut. */
#ifndef EXAMPLES_PATTERN_H
#define EXAMPLES_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void pattern_fill(uint64_t position, void* data, size_t length);

/* Length of the longest prefix that is as it should be: `length` when all is. */
size_t pattern_match(uint64_t position, const void* data, size_t length);

#endif
