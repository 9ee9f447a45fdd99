// libFuzzer target: fragments of several packets into lib/ip's reassembler.
#include "fragments_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postern::drive_fragments(data, size);
  return 0;
}
