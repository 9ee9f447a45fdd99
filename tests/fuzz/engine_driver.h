// Turns bytes into a life of one TCP connection: segments close to what it expects or far from it,
// time, application operations. The engine's invariants are checked after each step, and what it
// hands out is checked from outside. Aborts on a violation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace postern {

void drive_engine(const uint8_t* data, size_t size);

}  // namespace postern
