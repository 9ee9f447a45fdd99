#include "dpdk/eal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "eal_environment.h"

namespace postern {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::Not;

TEST(EalArguments, OrdinaryPagesLookAtNoPciBus) {
  EalOptions options;
  options.memory = (100 << 20) + 1;
  const auto args = eal_arguments(options, false, {0, 1});
  EXPECT_THAT(args, IsSupersetOf({"--no-huge", "--no-shconf", "--no-pci", "--no-telemetry"}));
  EXPECT_THAT(args, Not(Contains("--in-memory")));  // excludes --no-huge
  const auto m = std::find(args.begin(), args.end(), "-m");
  ASSERT_NE(m, args.end());
  EXPECT_EQ(*(m + 1), "101");  // rounded up
  const auto l = std::find(args.begin(), args.end(), "--lcores");
  ASSERT_NE(l, args.end());
  EXPECT_EQ(*(l + 1), "0@(0,1)");
}

TEST(EalArguments, HugepagesLeaveNoFiles) {
  const auto args = eal_arguments({}, true, {3});
  EXPECT_THAT(args, IsSupersetOf({"--in-memory", "--single-file-segments"}));
  EXPECT_THAT(args, Not(Contains("--no-huge")));
}

TEST(EalArguments, PciDevicesAreAnAllowList) {
  EalOptions options;
  options.pci_devices = {"03:00.0", "0000:81:00.1"};
  options.extra_args = {"--vfio-intr=msix"};
  const auto args = eal_arguments(options, true, {0});
  EXPECT_THAT(args, Not(Contains("--no-pci")));
  EXPECT_THAT(args, IsSupersetOf({"0000:03:00.0", "0000:81:00.1"}));
  EXPECT_EQ(std::count(args.begin(), args.end(), "-a"), 2);
  EXPECT_EQ(args.back(), "--vfio-intr=msix");
}

TEST(PciAddress, OnlyAddresses) {
  EXPECT_EQ(pci_address("0000:03:00.0"), "0000:03:00.0");
  EXPECT_EQ(pci_address("0A:1f.7"), "0000:0a:1f.7");
  for (const char* bad : {"", "net_tap0", "03:00", "03:00.8", "0000:03:00.", "zzzz:03:00.0",
                          "0000:03:00.0 ", "net_null0:0"}) {
    EXPECT_EQ(pci_address(bad), "") << bad;
  }
}

TEST(Eal, RefusesWhatIsNoPciAddress) {
  EalOptions options;
  options.pci_devices = {"eth7"};
  EXPECT_THROW(Eal{options}, DpdkError);
}

TEST(Eal, HugepagesThatDoNotExistAreNotUsable) {
  std::string reason;
  EXPECT_FALSE(hugepages_usable(uint64_t{1} << 50, &reason));
  EXPECT_THAT(reason, HasSubstr("free"));
  EalOptions options;
  options.hugepages = HugepageMode::on;
  options.memory = uint64_t{1} << 50;
  try {
    const Eal eal(options);
    FAIL() << "started with a pebibyte of hugepages";
  } catch (const DpdkError& e) {
    EXPECT_THAT(e.what(), HasSubstr("nr_hugepages"));
  }
}

TEST(Eal, StartsOnceAndSaysSo) {
  const Eal& first = test::eal();
  EXPECT_FALSE(first.hugepages());
  EXPECT_THAT(first.memory_description(), HasSubstr("128 MiB in ordinary pages"));
  EalOptions options;
  options.hugepages = HugepageMode::off;
  try {
    const Eal second(options);
    FAIL() << "started twice";
  } catch (const DpdkError& e) {
    EXPECT_THAT(e.what(), HasSubstr("once"));
  }
}

}  // namespace
}  // namespace postern
