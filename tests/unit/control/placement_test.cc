#include "control/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_system.h"

namespace postern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(CpuList, ReadsAndWritesRanges) {
  EXPECT_THAT(parse_cpu_list("0-3,8,10-11"), ElementsAre(0, 1, 2, 3, 8, 10, 11));
  EXPECT_THAT(parse_cpu_list(""), IsEmpty());
  EXPECT_THAT(parse_cpu_list("(null)"), IsEmpty());
  EXPECT_THAT(parse_cpu_list("5,x"), ElementsAre(5));
  EXPECT_EQ(format_cpu_list({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
  EXPECT_EQ(format_cpu_list({}), "");
}

// Two nodes of four physical cores: node 0 has 0-3 and 8-11, node 1 has 4-7 and 12-15.
class Placement : public testing::Test {
 protected:
  Placement() {
    system_.processors(2, 4);
    config_.cores = {2, 3};
    config_.memory_size = 512 << 20;
    PortConfig port;
    port.name = "wan0";
    port.device = "0000:03:00.0";
    config_.ports = {port};
  }
  Findings check() {
    return check_placement(config_, read_topology(system_.roots()), system_.roots());
  }

  FakeSystem system_;
  Config config_;
};

TEST_F(Placement, TopologyIsRead) {
  system_.hugepages(1, 3);
  const Topology topology = read_topology(system_.roots());
  ASSERT_EQ(topology.cpus.size(), 16U);
  EXPECT_THAT(topology.cpu(13)->siblings, ElementsAre(5, 13));
  EXPECT_EQ(topology.cpu(13)->node, 1);
  EXPECT_EQ(topology.cpu(16), nullptr);
  EXPECT_THAT(topology.cpus_of_node(0), ElementsAre(0, 1, 2, 3, 8, 9, 10, 11));
  ASSERT_EQ(topology.nodes.size(), 2U);
  EXPECT_EQ(topology.nodes[1].free_hugepages, uint64_t{6} << 20);
}

TEST_F(Placement, KernelWithoutNuma) {
  FakeSystem flat;
  flat.sys("devices/system/cpu/online", "0-1");
  flat.sys("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8");
  flat.sys("kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "5");
  flat.sys("kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "1");
  flat.sys("kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "1");
  const Topology topology = read_topology(flat.roots());
  EXPECT_THAT(topology.cpu(1)->siblings, ElementsAre(1));
  ASSERT_EQ(topology.nodes.size(), 1U);
  EXPECT_EQ(topology.nodes[0].free_hugepages, (uint64_t{1} << 30) + (uint64_t{10} << 20));
}

TEST_F(Placement, NothingToSayWhenAllIsNear) {
  system_.card("0000:03:00.0", "vfio-pci", 0);
  system_.hugepages(0, 256);
  for (const Finding& finding : check()) {
    EXPECT_EQ(finding.severity, Severity::good) << finding.topic << ": " << finding.what;
  }
}

TEST_F(Placement, WorkerFarFromTheCard) {
  system_.card("0000:03:00.0", "vfio-pci", 1);
  const Findings found = check();
  const auto lines = trouble(found, "numa");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0], HasSubstr("on NUMA node 1, the worker on core 2-3 is not"));
  const auto numa =
      std::find_if(found.begin(), found.end(), [](const Finding& f) { return f.topic == "numa"; });
  EXPECT_THAT(numa->remedy, HasSubstr("4-7,12-15"));
}

TEST_F(Placement, CardOfUnknownNodeIsNotBlamed) {
  system_.card("0000:03:00.0", "vfio-pci", -1);
  EXPECT_THAT(trouble(check(), "numa"), IsEmpty());
}

TEST_F(Placement, InterfaceOfTheKernelHasANodeToo) {
  config_.ports[0].device = "net_af_packet0,iface=eth7,qpairs=2";
  system_.sys("class/net/eth7/device/numa_node", "1");
  EXPECT_EQ(trouble(check(), "numa").size(), 1U);
}

TEST_F(Placement, WorkersOnSeveralNodes) {
  config_.ports[0].device = "net_memif0,role=server";
  config_.cores = {3, 4};
  EXPECT_THAT(trouble(check(), "numa"), ElementsAre("advice: workers run on 2 NUMA nodes"));
}

TEST_F(Placement, TwoThreadsOfACore) {
  config_.cores = {2, 10, 3};
  EXPECT_THAT(trouble(check(), "siblings"),
              ElementsAre("advice: cores 2,10 are threads of one physical core"));
}

TEST_F(Placement, CoreThatIsOffline) {
  config_.cores = {2, 40};
  EXPECT_THAT(trouble(check(), "cores"), ElementsAre("problem: core 40 is not online"));
}

TEST_F(Placement, SpinningWorkersWantIsolatedCores) {
  EXPECT_THAT(trouble(check(), "isolation"), IsEmpty());  // these sleep
  config_.busy = true;
  auto lines = trouble(check(), "isolation");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0], HasSubstr("isolcpus=2-3 nohz_full=2-3"));
  system_.sys("devices/system/cpu/isolated", "2");
  lines = trouble(check(), "isolation");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0], HasSubstr("the workers' cores 3 "));
  system_.sys("devices/system/cpu/isolated", "2-3");
  system_.sys("devices/system/cpu/nohz_full", "2-3");
  EXPECT_THAT(trouble(check(), "isolation"), IsEmpty());
}

TEST_F(Placement, SpinningOnCoreZero) {
  config_.cores = {0};
  EXPECT_THAT(trouble(check(), "cores"), IsEmpty());
  config_.busy = true;
  EXPECT_THAT(trouble(check(), "cores"), ElementsAre("advice: a worker that spins has core 0"));
}

TEST_F(Placement, Governor) {
  system_.sys("devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance");
  EXPECT_THAT(trouble(check(), "governor"), IsEmpty());
  system_.sys("devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave");
  EXPECT_THAT(trouble(check(), "governor"),
              ElementsAre("advice: core 3 changes its frequency (governor powersave) | cpupower -c "
                          "2-3 frequency-set -g performance"));
}

TEST_F(Placement, HugepagesOnTheWorkersNode) {
  config_.cores = {4};
  system_.hugepages(0, 256);
  system_.hugepages(1, 0);
  const auto lines = trouble(check(), "hugepages");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0], HasSubstr("advice: none free on node 1"));
  EXPECT_THAT(lines[0], HasSubstr("nic.sh hugepages 512MiB --node 1"));
}

TEST_F(Placement, HugepagesThatMustBeThere) {
  EXPECT_THAT(trouble(check(), "hugepages")[0], HasSubstr("posternd will use ordinary pages"));
  config_.hugepages = Hugepages::on;
  EXPECT_THAT(trouble(check(), "hugepages")[0], HasSubstr("problem: none free"));
  system_.hugepages(0, 255);
  EXPECT_THAT(trouble(check(), "hugepages")[0], HasSubstr("problem: only 510MiB free"));
  system_.hugepages(0, 256);
  EXPECT_THAT(trouble(check(), "hugepages"), IsEmpty());
}

}  // namespace
}  // namespace postern
