#include "control/metrics.h"

#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <regex>
#include <sstream>
#include <vector>

namespace postern {
namespace {

std::vector<Counters> two_workers() {
  std::vector<Counters> workers(2);
  workers[0].add(Counter::rx_packets, 5);
  workers[1].add(Counter::rx_packets, 7);
  workers[1].drop(Drop::tcp_bad_checksum, 3);
  return workers;
}

TEST(Metrics, TotalSumsWorkers) {
  const Counters sum = total(two_workers());
  EXPECT_EQ(sum.get(Counter::rx_packets), 12u);
  EXPECT_EQ(sum.get(Drop::tcp_bad_checksum), 3u);
  EXPECT_EQ(sum.get(Counter::tx_packets), 0u);
}

TEST(Metrics, StatsHaveEveryCounter) {
  const boost::json::value stats = stats_json(two_workers());
  EXPECT_EQ(stats.at("total").as_object().size(), kCounterCount);
  EXPECT_EQ(stats.at("total").at("rx_packets").to_number<uint64_t>(), 12u);
  ASSERT_EQ(stats.at("workers").as_array().size(), 2u);
  EXPECT_EQ(stats.at("workers").at(1).at("rx_packets").to_number<uint64_t>(), 7u);
}

TEST(Metrics, DropsShowWhatOccurredOrAll) {
  const boost::json::value some = drops_json(two_workers(), false);
  ASSERT_EQ(some.as_array().size(), 1u);
  EXPECT_EQ(some.at(0).at("reason").as_string(), "tcp_bad_checksum");
  EXPECT_EQ(some.at(0).at("packets").to_number<uint64_t>(), 3u);
  EXPECT_EQ(some.at(0).at("help").as_string(), "TCP checksum is wrong");
  EXPECT_EQ(drops_json(two_workers(), true).as_array().size(), kDropCount - 1) << "but not none";
}

TEST(Metrics, PrometheusTextIsWellFormed) {
  const std::string text = prometheus_text(two_workers());
  EXPECT_NE(text.find("# TYPE postern_rx_packets_total counter\n"
                      "postern_rx_packets_total{worker=\"0\"} 5\n"
                      "postern_rx_packets_total{worker=\"1\"} 7\n"),
            std::string::npos);
  EXPECT_NE(text.find("postern_drops_total{worker=\"1\",reason=\"tcp_bad_checksum\"} 3\n"),
            std::string::npos);
  const std::regex sample(R"(postern_[a-z0-9_]+_total\{worker="\d+"(,reason="[a-z0-9_]+")?\} \d+)");
  const std::regex comment(
      R"(# (HELP postern_[a-z0-9_]+_total .+|TYPE postern_[a-z0-9_]+_total counter))");
  std::istringstream lines(text);
  size_t samples = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) {
      EXPECT_TRUE(std::regex_match(line, comment)) << line;
    } else {
      EXPECT_TRUE(std::regex_match(line, sample)) << line;
      ++samples;
    }
  }
  EXPECT_EQ(samples, 2 * (kCounterCount + kDropCount - 1));
}

}  // namespace
}  // namespace postern
