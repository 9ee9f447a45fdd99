// Turns bytes into the life of one connection between two engines: what each application does, what
// the wire loses, delays, reorders and repeats, how time passes. Then the wire is made perfect and
// both sides close: every byte must have arrived once and in order, and both must come to an end.
// Aborts on a violation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace postern {

void drive_pair(const uint8_t* data, size_t size);

}  // namespace postern
