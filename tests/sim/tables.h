// What is measured rather than merely survived: throughput and fairness, printed and judged.
#pragma once

namespace postern::sim {

// Percent of a link of 100 Mbit/s for each algorithm, loss and round trip. False: a clean link was
// used to less than 95 %, or a value is not what the golden file says.
bool throughput_table(const char* golden);

// Two and more flows through one bottleneck. False: two CUBIC flows differ by more than 20 %, or
// CUBIC or NewReno leave more than 5 % of a clean bottleneck unused.
bool sharing();

}  // namespace postern::sim
