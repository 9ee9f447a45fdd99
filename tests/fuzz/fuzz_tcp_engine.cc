// libFuzzer target: bytes to a life of one connection.
#include "engine_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  postern::drive_engine(data, size);
  return 0;
}
