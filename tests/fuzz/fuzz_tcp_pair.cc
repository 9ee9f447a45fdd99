// libFuzzer target: bytes to a connection between two engines.
#include "pair_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postern::drive_pair(data, size);
  return 0;
}
