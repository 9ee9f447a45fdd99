#include "control/config.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "tcp/congestion.h"

namespace postern {
namespace {

// Knows user nobody, groups users and root, and the cores 0 to 3.
Machine test_machine() {
  Machine machine;
  machine.cores = {0, 1, 2, 3};
  machine.user = [](const std::string& name) {
    return name == "nobody"     ? std::optional<uint32_t>(65534)
           : name == "www-data" ? std::optional<uint32_t>(33)
                                : std::nullopt;
  };
  machine.group = [](const std::string& name) {
    return name == "users"  ? std::optional<uint32_t>(100)
           : name == "root" ? std::optional<uint32_t>(0)
                            : std::nullopt;
  };
  return machine;
}

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/postern-config-XXXXXX";
    const int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = name;
  }
  void TearDown() override { std::filesystem::remove(path_); }

  Config load(const std::string& text) {
    std::ofstream(path_) << text;
    return load_config(path_, test_machine());
  }
  // The message without the file's name in front: "line:column: what; what would be right".
  std::string error_of(const std::string& text) {
    try {
      load(text);
    } catch (const ConfigError& error) {
      const std::string message = error.what();
      EXPECT_TRUE(message.starts_with(path_ + ":")) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << "one line only";
      return message.substr(path_.size() + 1);
    }
    return "no error";
  }

  std::string path_;
};

const char kPorts[] =
    "ports:\n"
    "  - name: veth0\n"
    "    device: net_af_packet0,iface=veth0\n"
    "    addresses: [192.0.2.1/24]\n";

TEST_F(ConfigTest, WhoseAnAddressIs) {
  const ProgramsConfig none = load(kPorts).programs;
  EXPECT_TRUE(none.kernel.empty() && none.postern.empty() && !none.both);
  const ProgramsConfig some = load(std::string(kPorts) +
                                   "programs:\n"
                                   "  kernel: [default, 10.0.0.0/8]\n"
                                   "  postern: [10.1.0.0/16]\n"
                                   "  both: true\n")
                                  .programs;
  ASSERT_EQ(some.kernel.size(), 3u) << "default is of both families";
  EXPECT_EQ(some.kernel[0], *Prefix::parse("0.0.0.0/0"));
  EXPECT_EQ(some.kernel[1], *Prefix::parse("::/0"));
  EXPECT_EQ(some.kernel[2], *Prefix::parse("10.0.0.0/8"));
  ASSERT_EQ(some.postern.size(), 1u);
  EXPECT_TRUE(some.both);
  const auto error = [&](const std::string& lines) {
    return error_of(std::string(kPorts) + "programs:\n" + lines);
  };
  EXPECT_EQ(error("  kernel: [10.0.0.0/8]\n  postern: [10.0.0.0/8]\n"),
            "7:13: postern[0]: 10.0.0.0/8 is listed twice; a network has one side");
  EXPECT_NE(error("  kernel: [10.0.0.1/8]\n").find("bits set"), std::string::npos);
  std::string many = "  kernel: [";
  for (int i = 0; i < 64; ++i) many += "10." + std::to_string(i) + ".0.0/16, ";
  EXPECT_NE(error(many + "]\n").find("list at most 63"), std::string::npos);
}

TEST_F(ConfigTest, DefaultsOfTheSmallestFile) {
  const Config c = load(kPorts);
  ASSERT_EQ(c.ports.size(), 1u);
  EXPECT_EQ(c.ports[0].name, "veth0");
  EXPECT_EQ(c.ports[0].device, "net_af_packet0,iface=veth0");
  EXPECT_EQ(c.ports[0].addresses, (std::vector<Prefix>{{IpAddress::v4(0xc0000201), 24}}));
  EXPECT_EQ(c.ports[0].mtu, 1500);
  EXPECT_EQ(c.ports[0].where, path_ + ":3:13");
  EXPECT_EQ(c.cores, std::vector<int>{3});
  EXPECT_FALSE(c.busy);
  EXPECT_TRUE(c.access.empty());
  EXPECT_EQ(c.hugepages, Hugepages::automatic);
  EXPECT_EQ(c.memory_size, uint64_t{512} << 20);
  EXPECT_EQ(c.impair.seed, 0u);
}

TEST_F(ConfigTest, VlansAreInterfacesBehindThePorts) {
  const Config c = load(
      "ports:\n"
      "  - name: a\n"
      "    device: net_null0\n"
      "    addresses: [192.0.2.1/24]\n"
      "    mtu: 2000\n"
      "    vlans:\n"
      "      - {id: 7, addresses: [10.0.7.1/24]}\n"
      "      - {id: 8, name: guests, mtu: 1500, addresses: [10.0.8.1/24]}\n"
      "  - {name: b, device: net_null1, addresses: [198.51.100.1/24]}\n"
      "routes: [{to: default, via: 10.0.8.254}]\n");
  const auto all = interfaces_of(c.ports);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[1].name, "b");
  EXPECT_EQ(all[2].name, "a.7");
  EXPECT_EQ(all[2].mtu, 2000);
  EXPECT_EQ(all[2].vlan, 7);
  EXPECT_EQ(all[3].name, "guests");
  EXPECT_EQ(all[3].mtu, 1500);
  EXPECT_EQ(all[3].port, 0);
  EXPECT_EQ(c.routes[0].port, "guests");
}

TEST_F(ConfigTest, ChecksumsOfAPort) {
  const Config c = load(
      "ports:\n"
      "  - {name: a, device: net_memif0, addresses: [192.0.2.1/24], checksums: off}\n"
      "  - {name: b, device: net_memif1, addresses: [198.51.100.1/24], checksums: on}\n"
      "  - {name: c, device: net_memif2, addresses: [203.0.113.1/24]}\n");
  EXPECT_FALSE(c.ports[0].checksums);
  EXPECT_TRUE(c.ports[1].checksums);
  EXPECT_TRUE(c.ports[2].checksums);
}

TEST_F(ConfigTest, EveryValueArrives) {
  const Config c = load(
      "dpdk: {extra_args: [--log-level=8, -v], file_prefix: p1}\n"
      "memory: {hugepages: off, size: 1GiB}\n"
      "workers: {cores: [2, 1], idle: busy, spin: 20us, connections: 1000}\n"
      "ports:\n"
      "  - {name: a, device: '0000:03:00.1', mac: '02:00:00:00:00:05', mtu: 9000,\n"
      "     addresses: [192.0.2.1/24, 192.0.2.9/24], checksum_offload: off,\n"
      "     rx_descriptors: 256, tx_descriptors: 512,\n"
      "     ipv6: {accept_ra: true, interface_ids: eui64},\n"
      "     exception: {tap: t0, allow: [tcp/22, udp/500-600, icmp, ip/112], rate: 7, queue: "
      "1MiB}}\n"
      "  - {name: b, device: 'net_memif0,role=server', addresses: [198.51.100.1/30],\n"
      "     vlans: [{id: 7, addresses: [10.7.0.1/24], exception: {tap: t7, allow: [tcp/179]}}]}\n"
      "routes: [{to: default, via: 192.0.2.254}, {to: 203.0.113.0/24, port: b, metric: 7}]\n"
      "neighbors: {reachable: 5s, entries: 64, permanent: [\n"
      "  {address: 198.51.100.2, mac: '02:00:00:00:00:06'},\n"
      "  {address: 'fe80::6', mac: '02:00:00:00:00:07', port: a}]}\n"
      "tcp: {rto_min: 10ms, receive_buffer: 2MiB, receive_buffer_max: 8MiB, ecn: true,\n"
      "  congestion: dctcp, keepalive_probes: 3, syncookies: never}\n"
      "access:\n"
      "  - {user: nobody, bind: [tcp/80, udp/5000-6000, tcp/any], connect: false,\n"
      "     memory: 4MiB, sockets: 1024, applications: 2}\n"
      "  - {group: 4711}\n"
      "control: {app_socket: /run/x/a.sock, socket: /run/x/c.sock, group: users}\n"
      "log: {level: debug, file: /var/log/p.log}\n"
      "impair: {seed: 9, loss: 5%, duplicate: 0.5%, reorder: 1%, corrupt: 100%, tx: false}\n");
  EXPECT_EQ(c.dpdk_extra_args, (std::vector<std::string>{"--log-level=8", "-v"}));
  EXPECT_EQ(c.file_prefix, "p1");
  EXPECT_EQ(c.hugepages, Hugepages::off);
  EXPECT_EQ(c.memory_size, uint64_t{1} << 30);
  EXPECT_EQ(c.cores, (std::vector<int>{2, 1}));
  EXPECT_TRUE(c.busy);
  EXPECT_EQ(c.idle_spin, 20us);
  EXPECT_EQ(c.max_connections, 1000u);
  ASSERT_EQ(c.ports.size(), 2u);
  EXPECT_EQ(c.ports[0].mac->bytes[5], 5);
  EXPECT_EQ(c.ports[0].mtu, 9000);
  EXPECT_EQ(c.ports[0].addresses.size(), 2u);
  EXPECT_EQ(c.ports[0].checksum_offload, OffloadMode::off);
  EXPECT_EQ(c.ports[0].rx_descriptors, 256);
  EXPECT_EQ(c.ports[0].tx_descriptors, 512);
  EXPECT_TRUE(c.ports[0].ipv6.accept_ra);
  EXPECT_FALSE(c.ports[0].ipv6.stable_ids);
  EXPECT_FALSE(c.ports[1].ipv6.accept_ra);
  ASSERT_TRUE(c.ports[0].exception);
  const ExceptionPathConfig& e = *c.ports[0].exception;
  EXPECT_EQ(e.tap, "t0");
  EXPECT_EQ(e.rate, 7u);
  EXPECT_EQ(e.queue, 1u << 20);
  ASSERT_EQ(e.allow.size(), 5u) << "icmp stands for two protocols";
  EXPECT_EQ(e.allow[0].protocol, IPPROTO_TCP);
  EXPECT_EQ(e.allow[1].last, 600);
  EXPECT_EQ(e.allow[3].protocol, IPPROTO_ICMPV6);
  EXPECT_EQ(e.allow[4].protocol, 112);
  EXPECT_FALSE(c.ports[1].exception);
  ASSERT_EQ(c.ports[1].vlans.size(), 1u);
  ASSERT_TRUE(c.ports[1].vlans[0].exception);
  EXPECT_EQ(c.ports[1].vlans[0].exception->tap, "t7");
  EXPECT_EQ(interfaces_of(c.ports).at(2).exception->allow.at(0).first, 179);
  ASSERT_EQ(c.routes.size(), 2u);
  EXPECT_EQ(c.routes[0].to, (Prefix{IpAddress::v4(0), 0}));
  EXPECT_EQ(c.routes[0].via, IpAddress::v4(0xc00002fe));
  EXPECT_EQ(c.routes[0].port, "a") << "found by the router's network";
  EXPECT_EQ(c.routes[1].port, "b");
  EXPECT_EQ(c.routes[1].metric, 7u);
  ASSERT_EQ(c.permanent_neighbors.size(), 2u);
  EXPECT_EQ(c.permanent_neighbors[0].address, IpAddress::v4(0xc6336402));
  EXPECT_EQ(c.permanent_neighbors[0].port, "b") << "found by its network";
  EXPECT_EQ(c.permanent_neighbors[0].mac.bytes[5], 6);
  EXPECT_EQ(c.permanent_neighbors[1].port, "a");
  EXPECT_EQ(c.neighbor_reachable, 5s);
  EXPECT_EQ(c.neighbor_entries, 64u);
  EXPECT_EQ(c.tcp.rto_min, 10ms);
  EXPECT_EQ(c.tcp.receive_buffer, 2u << 20);
  EXPECT_EQ(c.tcp.receive_buffer_max, 8u << 20);
  EXPECT_EQ(kCongestionNames[c.tcp.congestion], "dctcp");
  EXPECT_TRUE(c.tcp.ecn);
  EXPECT_EQ(c.tcp.syncookies, SynCookies::never);
  EXPECT_EQ(c.tcp.keepalive_probes, 3);
  ASSERT_EQ(c.access.size(), 2u);
  EXPECT_EQ(c.access[0].uid, 65534u);
  EXPECT_EQ(c.access[0].who, "user nobody");
  ASSERT_EQ(c.access[0].bind.size(), 3u);
  EXPECT_EQ(c.access[0].bind[1].protocol, IPPROTO_UDP);
  EXPECT_EQ(c.access[0].bind[1].first, 5000);
  EXPECT_EQ(c.access[0].bind[1].last, 6000);
  EXPECT_EQ(c.access[0].bind[2].last, 65535);
  EXPECT_FALSE(c.access[0].connect);
  EXPECT_EQ(c.access[0].memory, 4u << 20);
  EXPECT_EQ(c.access[0].sockets, 1024u);
  EXPECT_EQ(c.access[0].applications, 2u);
  EXPECT_EQ(c.control_group, "users");
  EXPECT_EQ(c.app_socket, "/run/x/a.sock");
  EXPECT_EQ(c.control_socket, "/run/x/c.sock");
  EXPECT_EQ(c.log_level, "debug");
  EXPECT_EQ(c.log_file, "/var/log/p.log");
  EXPECT_EQ(c.impair.seed, 9u);
  EXPECT_DOUBLE_EQ(c.impair.loss, 0.05);
  EXPECT_DOUBLE_EQ(c.impair.duplicate, 0.005);
  EXPECT_DOUBLE_EQ(c.impair.corrupt, 1.0);
  EXPECT_TRUE(c.impair.rx);
  EXPECT_FALSE(c.impair.tx);
}

struct BadFile {
  const char* name;
  std::string text;
  std::string message;
};

// A port by its one line in question, which stands in line 2 from column 5 on.
std::string port(const std::string& rest) { return "ports:\n  - " + rest + "\n    name: p\n"; }

const std::string kDevice = "    device: net_null0\n    addresses: [192.0.2.1/24]\n";

class BadConfigTest : public ConfigTest, public testing::WithParamInterface<BadFile> {};

TEST_P(BadConfigTest, SaysWhereWhatAndWhatWouldBeRight) {
  EXPECT_EQ(error_of(GetParam().text), GetParam().message);
}

#include "bad_configs.inc"

INSTANTIATE_TEST_SUITE_P(All, BadConfigTest, testing::ValuesIn(kBadFiles),
                         [](const auto& test) { return test.param.name; });

TEST(ConfigFile, MissingFile) {
  try {
    load_config("/nonexistent/postern.yaml", test_machine());
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "/nonexistent/postern.yaml:1:1: cannot read the file: No such file or directory; "
                 "give the path of a readable YAML file");
  }
}

TEST(ConfigFile, Directory) { EXPECT_THROW(load_config("/tmp", test_machine()), ConfigError); }

// ---- examples and schema ----

const std::filesystem::path kConfigDir = POSTERN_CONFIG_DIR;

TEST(ConfigExamples, EveryExampleLoads) {
  size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigDir)) {
    if (entry.path().extension() != ".yaml") continue;
    ++found;
    EXPECT_NO_THROW(load_config(entry.path(), test_machine())) << entry.path();
  }
  EXPECT_GE(found, 3u);
}

// The full example shows the defaults: reading it without what is marked as an example must give
// what the smallest file gives.
TEST(ConfigExamples, FullExampleShowsTheDefaults) {
  const Config shown = load_config(kConfigDir / "postern.yaml", test_machine());
  const Config fresh;
  EXPECT_EQ(shown.file_prefix, fresh.file_prefix);
  EXPECT_EQ(shown.memory_size, fresh.memory_size);
  EXPECT_EQ(shown.idle_spin, fresh.idle_spin);
  EXPECT_EQ(shown.max_connections, fresh.max_connections);
  EXPECT_EQ(shown.neighbor_reachable, fresh.neighbor_reachable);
  EXPECT_EQ(shown.neighbor_entries, fresh.neighbor_entries);
  EXPECT_EQ(shown.app_socket, fresh.app_socket);
  EXPECT_EQ(shown.control_socket, fresh.control_socket);
  const TcpConfig &a = shown.tcp, &b = fresh.tcp;
  EXPECT_EQ(a.rto_initial, b.rto_initial);
  EXPECT_EQ(a.rto_min, b.rto_min);
  EXPECT_EQ(a.rto_max, b.rto_max);
  EXPECT_EQ(a.delayed_ack, b.delayed_ack);
  EXPECT_EQ(a.time_wait, b.time_wait);
  EXPECT_EQ(a.fin_wait_2, b.fin_wait_2);
  EXPECT_EQ(a.keepalive_idle, b.keepalive_idle);
  EXPECT_EQ(a.keepalive_interval, b.keepalive_interval);
  EXPECT_EQ(a.keepalive_probes, b.keepalive_probes);
  EXPECT_EQ(a.syn_retries, b.syn_retries);
  EXPECT_EQ(a.syn_ack_retries, b.syn_ack_retries);
  EXPECT_EQ(a.retries, b.retries);
  EXPECT_EQ(a.orphan_retries, b.orphan_retries);
  EXPECT_EQ(a.initial_window, b.initial_window);
  EXPECT_EQ(a.mss_ipv4, b.mss_ipv4);
  EXPECT_EQ(a.mss_min, b.mss_min);
  EXPECT_EQ(a.receive_buffer, b.receive_buffer);
  EXPECT_EQ(a.receive_buffer_max, b.receive_buffer_max);
  EXPECT_EQ(a.congestion, b.congestion);
  EXPECT_EQ(a.send_buffer, b.send_buffer);
  EXPECT_EQ(a.timestamps, b.timestamps);
  EXPECT_EQ(a.window_scaling, b.window_scaling);
  EXPECT_EQ(a.sack, b.sack);
  EXPECT_EQ(a.ecn, b.ecn);
}

void collect(const boost::json::value& schema, const std::string& prefix,
             std::set<std::string>& out) {
  const auto* properties = schema.as_object().if_contains("properties");
  if (properties == nullptr) return;
  for (const auto& property : properties->as_object()) {
    const std::string path = prefix + std::string(property.key());
    out.insert(path);
    collect(property.value(), path + ".", out);
    const auto* items = property.value().as_object().if_contains("items");
    if (items != nullptr) collect(*items, path + "[].", out);
  }
}

std::string read_all(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(ConfigSchema, KnowsExactlyTheKeysOfTheParser) {
  std::set<std::string> schema;
  collect(boost::json::parse(read_all(kConfigDir / "postern.schema.json")), "", schema);
  const std::vector<std::string> list = config_keys();
  EXPECT_EQ(schema, std::set<std::string>(list.begin(), list.end()));
}

TEST(ConfigSchema, ManualNamesEveryKey) {
  const std::string manual = read_all(kConfigDir / "postern.yaml.5");
  for (const std::string& key : config_keys()) {
    EXPECT_NE(manual.find(key.substr(key.rfind('.') + 1)), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace postern
