// Bytes become fragments of several packets at once, of both families and several sources, in any
// order, and time passes between them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace postern {

// Aborts when a whole packet has another byte than was sent, or a bound of the reassembler does not
// hold, or memory is not returned.
void drive_fragments(const uint8_t* data, size_t size);

}  // namespace postern
