// Descriptors that a driver opened inside this process and does not show. Private to lib/dpdk.
#pragma once

#include <vector>

namespace postern {

// This process's sockets of an address family, ascending.
std::vector<int> sockets_of_family(int family);
// What is in `after` and not in `before`; both ascending.
std::vector<int> added(const std::vector<int>& before, const std::vector<int>& after);
// True for an AF_PACKET socket that is bound to an interface.
bool is_bound_packet_socket(int fd);
bool is_eventfd(int fd);

}  // namespace postern
