// Boost.JSON is used without its library: this is its one translation unit.
#if defined(__GNUC__) && !defined(__clang__)
// With sanitizers GCC 12 sees a copy out of bounds in array::insert that cannot happen.
#pragma GCC diagnostic ignored "-Warray-bounds"
#endif
#include <boost/json/src.hpp>
