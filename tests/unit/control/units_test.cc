#include "control/units.h"

#include <gtest/gtest.h>

#include <array>

namespace postern {
namespace {

TEST(Units, IntegerIsDigitsAlone) {
  EXPECT_EQ(parse_integer("0"), 0u);
  EXPECT_EQ(parse_integer("18446744073709551615"), UINT64_MAX);
  for (const char* bad : {"", "-1", "+1", "01", "0x10", "1_000", "1.0", " 1", "1 ", "8080x",
                          "18446744073709551616"}) {
    EXPECT_EQ(parse_integer(bad), std::nullopt) << bad;
  }
}

TEST(Units, DurationNeedsItsUnit) {
  EXPECT_EQ(parse_duration("200ms"), 200ms);
  EXPECT_EQ(parse_duration("7ns"), 7ns);
  EXPECT_EQ(parse_duration("50us"), 50us);
  EXPECT_EQ(parse_duration("3s"), 3s);
  EXPECT_EQ(parse_duration("2m"), 2min);
  EXPECT_EQ(parse_duration("1h"), 1h);
  for (const char* bad : {"", "200", "ms", "200 ms", "1.5s", "-1s", "1d", "9999999999h"}) {
    EXPECT_EQ(parse_duration(bad), std::nullopt) << bad;
  }
}

TEST(Units, SizeNeedsItsUnit) {
  EXPECT_EQ(parse_size("512B"), 512u);
  EXPECT_EQ(parse_size("64KiB"), 65536u);
  EXPECT_EQ(parse_size("3GiB"), uint64_t{3} << 30);
  for (const char* bad : {"", "512", "1MB", "1M", "1mib", "16777216TiB"}) {
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
  }
}

TEST(Units, PercentIsAProbability) {
  EXPECT_DOUBLE_EQ(*parse_percent("5%"), 0.05);
  EXPECT_DOUBLE_EQ(*parse_percent("0.1%"), 0.001);
  EXPECT_DOUBLE_EQ(*parse_percent("100%"), 1);
  for (const char* bad : {"", "%", "5", "-1%", "-0%", "101%", "nan%", "inf%", "1e1%", "5 %"}) {
    EXPECT_EQ(parse_percent(bad), std::nullopt) << bad;
  }
}

TEST(Units, FormatsWithTheLargestWholeUnit) {
  EXPECT_EQ(format_duration(200ms), "200ms");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(7200s), "2h");
  EXPECT_EQ(format_size(65536), "64KiB");
  EXPECT_EQ(format_size(65537), "65537B");
  EXPECT_EQ(format_size(0), "0B");
}

TEST(Units, EditDistance) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("mtu", "mtu"), 0u);
}

TEST(Units, NearestSuggestsOnlyWhatIsNear) {
  const std::array<std::string_view, 3> words{"workers", "warning", "ports"};
  EXPECT_EQ(nearest("worker", words), "workers");
  EXPECT_EQ(nearest("warn", words), "warning");
  EXPECT_EQ(nearest("prots", words), "ports");
  EXPECT_EQ(nearest("interfaces", words), "");
}

}  // namespace
}  // namespace postern
