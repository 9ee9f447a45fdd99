// Turns bytes into a life of one worker's stack: frames of every protocol, time, and what an
// application asks for. Aborts when an invariant of the stack or of its sockets does not hold, when
// it sends a frame that does not parse or tells its application what cannot be, and when something
// is left after the application has gone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace postern {

void drive_stack(const uint8_t* data, size_t size);

}  // namespace postern
