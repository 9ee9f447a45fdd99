#include "control/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>

#include "fake_system.h"

namespace postern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Doctor : public testing::Test {
 protected:
  Doctor() {
    system_.processors(1, 4);
    system_.hugepages(0, 1024);
    around_ = system_.surroundings();
    config_.cores = {2};
    port("0000:03:00.0");
  }
  void port(const std::string& device) {
    PortConfig port;
    port.name = "wan0";
    port.device = device;
    config_.ports = {port};
  }
  std::vector<std::string> find(const std::string& topic) {
    return trouble(examine(&config_, around_), topic);
  }
  // A veth "post0" whose other end is as given.
  void veth(std::optional<InterfaceFacts> peer) {
    port("net_af_packet0,iface=post0");
    around_.interface = [](const std::string& name) -> std::optional<InterfaceFacts> {
      if (name != "post0") return std::nullopt;
      InterfaceFacts facts;
      facts.name = name;
      facts.driver = "veth";
      return facts;
    };
    around_.veth_peer = [peer](const std::string&) { return peer; };
  }

  FakeSystem system_;
  Surroundings around_;
  Config config_;
};

TEST_F(Doctor, AMachineInOrder) {
  system_.card("0000:03:00.0", "vfio-pci", 0, "7");
  for (const Finding& finding : examine(&config_, around_)) {
    EXPECT_EQ(finding.severity, Severity::good) << finding.topic << ": " << finding.what;
  }
}

TEST_F(Doctor, EveryTroubleHasARemedy) {
  system_.proc("cpuinfo", "flags\t: fpu\n");
  system_.proc("mounts", "");
  system_.sys("devices/system/clocksource/clocksource0/current_clocksource", "hpet");
  system_.card("0000:03:00.0", "ixgbe", 0);
  around_.locked_memory = 65536;
  around_.root = false;
  around_.capabilities = 0;
  config_.busy = true;
  int troubles = 0;
  for (const Finding& finding : examine(&config_, around_)) {
    if (finding.severity == Severity::good) continue;
    ++troubles;
    EXPECT_FALSE(finding.remedy.empty()) << finding.what;
  }
  EXPECT_GE(troubles, 7);
}

TEST_F(Doctor, Processor) {
  system_.proc("cpuinfo", "flags\t: fpu bmi2 fma constant_tsc\n");
  EXPECT_THAT(find("processor"), ElementsAre("problem: the processor lacks avx2"));
}

TEST_F(Doctor, Clock) {
  system_.sys("devices/system/clocksource/clocksource0/current_clocksource", "hpet");
  EXPECT_THAT(find("clock")[0], HasSubstr("advice: the kernel's clock source is hpet"));
  system_.proc("cpuinfo", "flags\t: avx2 bmi2 fma\n");
  EXPECT_THAT(find("clock")[0], HasSubstr("advice: the time stamp counter"));
}

TEST_F(Doctor, CardThatTheKernelHas) {
  system_.card("0000:03:00.0", "ixgbe", 0, "7");
  system_.sys("bus/pci/devices/0000:03:00.0/net/eth1/ifindex", "3");
  EXPECT_THAT(find("binding"),
              ElementsAre("problem: port wan0: 0000:03:00.0: driver ixgbe, interface eth1 | "
                          "deploy/nic.sh bind 0000:03:00.0"));
}

TEST_F(Doctor, CardThatDpdkSharesWithTheKernel) {
  system_.card("0000:03:00.0", "mlx5_core", 0);
  EXPECT_THAT(find("binding"), IsEmpty());
}

TEST_F(Doctor, CardThatIsNotThere) {
  EXPECT_THAT(find("binding")[0], HasSubstr("there is no PCI device 0000:03:00.0"));
}

TEST_F(Doctor, IommuOffMattersToCardsOnly) {
  EXPECT_THAT(find("iommu")[0], HasSubstr("advice: the IOMMU is off"));
  port("net_memif0,role=server");
  EXPECT_THAT(find("iommu"), IsEmpty());
}

TEST_F(Doctor, GroupSharedWithTheKernel) {
  system_.card("0000:03:00.0", "vfio-pci", 0, "7");
  system_.card("0000:03:00.1", "ixgbe", 0, "7");
  EXPECT_THAT(find("iommu")[0], HasSubstr("shares IOMMU group 7 with 0000:03:00.1 ixgbe"));
  EXPECT_THAT(find("iommu")[0], HasSubstr("| deploy/nic.sh bind 0000:03:00.1"));
}

TEST_F(Doctor, VethWhoseKernelEndLeavesChecksumsUndone) {
  InterfaceFacts peer;
  peer.name = "linux0";
  peer.network = "ip netns exec blue";
  peer.tx_checksum = peer.gso = true;
  veth(peer);
  EXPECT_THAT(
      find("offload"),
      ElementsAre("problem: port wan0: the kernel's end of veth post0 (linux0) leaves undone: "
                  "checksums, segmentation | ip netns exec blue ethtool -K linux0 tx off tso "
                  "off gso off"));
  veth(InterfaceFacts{});
  EXPECT_THAT(find("offload"), IsEmpty());
  veth(std::nullopt);
  EXPECT_THAT(find("offload")[0], HasSubstr("advice: port wan0: the other end of veth post0"));
}

TEST_F(Doctor, InterfaceThatJoinsSegments) {
  port("net_af_packet0,iface=eth1");
  around_.interface = [](const std::string& name) {
    InterfaceFacts facts;
    facts.name = name;
    facts.driver = "igb";
    facts.gro = true;
    return std::optional(facts);
  };
  EXPECT_THAT(find("offload"), ElementsAre("problem: port wan0: eth1 joins received segments | "
                                           "ethtool -K eth1 gro off lro off"));
}

TEST_F(Doctor, InterfaceThatIsNotThere) {
  port("net_af_xdp0,iface=eth9");
  EXPECT_THAT(find("devices"),
              ElementsAre("problem: port wan0: there is no network interface eth9 | ip link"));
}

TEST_F(Doctor, DevicesThatDoNotSpreadFlows) {
  port("net_memif0,role=server");
  EXPECT_THAT(find("rss"), IsEmpty());  // one worker
  config_.cores = {2, 3};
  EXPECT_THAT(find("rss")[0],
              HasSubstr("leaves the choice of the queue to the sender; there are 2"));
  port("0000:03:00.0");
  system_.card("0000:03:00.0", "vfio-pci", 0, "7");
  EXPECT_THAT(find("rss"), IsEmpty());  // unknown: nothing is claimed
  system_.sys("bus/pci/devices/0000:03:00.0/vendor", "0x8086");
  system_.sys("bus/pci/devices/0000:03:00.0/device", "0x10d3");
  EXPECT_THAT(find("rss")[0], HasSubstr("e1000e"));
}

TEST_F(Doctor, Permissions) {
  veth(InterfaceFacts{});
  around_.root = false;
  EXPECT_THAT(find("permissions"), IsEmpty());
  around_.capabilities = ~(uint64_t{1} << CAP_NET_RAW);
  EXPECT_THAT(find("permissions")[0], HasSubstr("needs CAP_NET_RAW"));
  around_.capabilities = ~(uint64_t{1} << CAP_IPC_LOCK);
  around_.locked_memory = 8 << 20;
  EXPECT_THAT(find("permissions"),
              ElementsAre("problem: locked memory is limited to 8192 KiB | ulimit -l unlimited"));
}

TEST_F(Doctor, UserWithoutTheGroupsFile) {
  system_.card("0000:03:00.0", "vfio-pci", 0, "7");
  around_.root = false;
  EXPECT_THAT(find("permissions")[0], HasSubstr("needs /dev/vfio/7"));
}

TEST_F(Doctor, WithoutConfigurationCardsAreListed) {
  system_.card("0000:03:00.0", "ixgbe", 0, "7");
  bool listed = false;
  for (const Finding& finding : examine(nullptr, around_)) {
    listed |= finding.topic == "binding" && finding.what == "0000:03:00.0: driver ixgbe";
  }
  EXPECT_TRUE(listed);
}

}  // namespace
}  // namespace postern
