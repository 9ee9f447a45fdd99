// Which bytes of a file a request asks for (RFC 9110 14).
#pragma once

#include <cstdint>
#include <string_view>

namespace httpd {

struct Range {
  enum class Kind : uint8_t {
    whole,          // no usable Range: send everything, status 200
    partial,        // status 206
    unsatisfiable,  // status 416
  };
  Kind kind = Kind::whole;
  uint64_t first = 0;   // offset of the first byte
  uint64_t length = 0;  // bytes
};

// `header`: the field's value, "" when there is none. What is malformed, in another unit or asks
// for several ranges is ignored, as RFC 9110 14.2 allows: the answer is the whole file of `size`
// bytes.
Range parse_range(std::string_view header, uint64_t size);

}  // namespace httpd
