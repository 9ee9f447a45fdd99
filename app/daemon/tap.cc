#include "daemon/tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "control/log.h"

namespace postern {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::string& tap, const std::string& what) {
  throw std::runtime_error("tap " + tap + ": " + what);
}

[[noreturn]] void fail_errno(const std::string& tap, const std::string& what) {
  const int error = errno;
  fail(tap, what + ": " + std::strerror(error));
}

ifreq request_for(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

int open_device(const std::string& name) {
  Descriptor fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0) fail_errno(name, "cannot open /dev/net/tun (modprobe tun, CAP_NET_ADMIN)");
  ifreq request = request_for(name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    fail_errno(name, "the kernel refuses it (another program's, or another kind of interface?)");
  }
  return fd.release();
}

void set_link(const TapOptions& o, int control) {
  ifreq request = request_for(o.name);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::memcpy(request.ifr_hwaddr.sa_data, o.mac.bytes.data(), o.mac.bytes.size());
  if (::ioctl(control, SIOCSIFHWADDR, &request) != 0) fail_errno(o.name, "cannot set its MAC");
  request = request_for(o.name);
  request.ifr_mtu = o.mtu;
  if (::ioctl(control, SIOCSIFMTU, &request) != 0) fail_errno(o.name, "cannot set its MTU");
  request = request_for(o.name);
  if (::ioctl(control, SIOCGIFFLAGS, &request) != 0) fail_errno(o.name, "cannot be asked");
  request.ifr_flags |= IFF_UP;
  if (::ioctl(control, SIOCSIFFLAGS, &request) != 0) fail_errno(o.name, "cannot be brought up");
}

std::string ip_setting(const char* family, const std::string& interface, const char* name) {
  return std::string("/proc/sys/net/") + family + "/conf/" + interface + '/' + name;
}

bool write_setting(const std::string& file, const std::string& value) {
  std::ofstream out(file);
  out << value << std::flush;
  return out.good();
}

// ---- addresses, by rtnetlink(7) ----

struct AddressRequest {
  nlmsghdr header;
  ifaddrmsg address;
  std::byte attributes[128];
};

void add_attribute(AddressRequest& r, unsigned short type, const void* data, size_t size) {
  auto* const at = reinterpret_cast<std::byte*>(&r) + NLMSG_ALIGN(r.header.nlmsg_len);
  auto* const attribute = reinterpret_cast<rtattr*>(at);
  attribute->rta_type = type;
  attribute->rta_len = static_cast<unsigned short>(RTA_LENGTH(size));
  std::memcpy(RTA_DATA(attribute), data, size);
  r.header.nlmsg_len = NLMSG_ALIGN(r.header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

AddressRequest make_request(unsigned interface, const Prefix& prefix, bool add = true) {
  AddressRequest r{};
  r.header.nlmsg_len = NLMSG_LENGTH(sizeof(ifaddrmsg));
  r.header.nlmsg_type = add ? RTM_NEWADDR : RTM_DELADDR;
  r.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  if (add) r.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_REPLACE;
  const bool v4 = prefix.address.is_v4();
  r.address.ifa_family = v4 ? AF_INET : AF_INET6;
  r.address.ifa_prefixlen = prefix.length;
  r.address.ifa_flags = IFA_F_NODAD;
  r.address.ifa_scope = prefix.address.is_link_local() ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  r.address.ifa_index = interface;
  const uint8_t* const bytes = prefix.address.data() + (v4 ? 12 : 0);
  const size_t size = v4 ? 4 : 16;
  add_attribute(r, IFA_LOCAL, bytes, size);
  add_attribute(r, IFA_ADDRESS, bytes, size);
  if (v4 && prefix.length < 31) {
    const uint32_t last = htonl(prefix.address.v4_value() | (UINT32_MAX >> prefix.length));
    add_attribute(r, IFA_BROADCAST, &last, sizeof last);
  }
  return r;
}

// 0 or errno.
int ask(int netlink, const AddressRequest& request) {
  if (::send(netlink, &request, request.header.nlmsg_len, 0) < 0) return errno;
  std::array<char, 1024> answer;
  const ssize_t n = ::recv(netlink, answer.data(), answer.size(), 0);
  if (n < 0) return errno;
  if (static_cast<size_t>(n) < NLMSG_LENGTH(sizeof(nlmsgerr))) return EPROTO;
  const auto* const header = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (header->nlmsg_type != NLMSG_ERROR) return EPROTO;
  return -reinterpret_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
}

void add_addresses(const TapOptions& o) {
  const Descriptor netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) fail_errno(o.name, "cannot ask the kernel for addresses");
  for (const Prefix& prefix : o.addresses) {
    const int error = ask(netlink.get(), make_request(if_nametoindex(o.name.c_str()), prefix));
    if (error != 0) {
      fail(o.name, "cannot have the address " + prefix.to_string() + ": " + std::strerror(error));
    }
  }
}

void keep_quiet_about_ipv6(const TapOptions& o) {
  const bool wanted = std::any_of(o.addresses.begin(), o.addresses.end(),
                                  [](const Prefix& p) { return !p.address.is_v4(); });
  const auto set = [&o](const char* name, const char* value) {
    (void)write_setting(ip_setting("ipv6", o.name, name), value);
  };
  set("addr_gen_mode", "1");  // none of its own
  set("accept_ra", "0");
  set("autoconf", "0");
  set("dad_transmits", "0");
  set("disable_ipv6", wanted ? "0" : "1");
}

}  // namespace

int open_tap(const TapOptions& options) {
  Descriptor tap(open_device(options.name));
  const Descriptor control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (control.get() < 0) fail_errno(options.name, "no socket to set it up with");
  keep_quiet_about_ipv6(options);
  set_link(options, control.get());
  add_addresses(options);
  return tap.release();
}

void change_addresses(const std::string& tap, const std::vector<Prefix>& before,
                      const std::vector<Prefix>& after) {
  const Descriptor netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  const unsigned interface = if_nametoindex(tap.c_str());
  const auto each_missing = [&](const auto& from, const auto& in, bool add) {
    for (const Prefix& prefix : from) {
      if (std::find(in.begin(), in.end(), prefix) != in.end()) continue;
      const int error = ask(netlink.get(), make_request(interface, prefix, add));
      if (error == 0) continue;
      spdlog::warn("tap {}: address {} cannot be {}: {}", tap, prefix.to_string(),
                   add ? "added" : "removed", std::strerror(error));
    }
  };
  each_missing(before, after, false);
  each_missing(after, before, true);
}

QuietInterface::QuietInterface(const std::string& interface) {
  set(ip_setting("ipv4", interface, "rp_filter"), "1");   // the way back is the tap
  set(ip_setting("ipv4", interface, "arp_ignore"), "8");  // answers for no address
  set(ip_setting("ipv6", interface, "disable_ipv6"), "1");
}

QuietInterface::~QuietInterface() {
  for (const Setting& s : settings_) (void)write_setting(s.file, s.before);
}

void QuietInterface::set(const std::string& file, const std::string& value) {
  std::ifstream in(file);
  std::string before;
  if (!std::getline(in, before)) return;  // a kernel without IPv6
  if (before == value) return;
  if (write_setting(file, value)) {
    settings_.push_back({file, before});
  } else {
    spdlog::warn("cannot set {} to {}: the kernel may answer there for the tap's addresses", file,
                 value);
  }
}

}  // namespace postern
