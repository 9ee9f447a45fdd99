// libFuzzer target: frames, time and operations into a whole stack.
#include "stack_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postern::drive_stack(data, size);
  return 0;
}
