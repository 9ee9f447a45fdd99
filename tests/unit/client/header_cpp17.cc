#include "postern.hpp"

static_assert(__cplusplus < 202002L, "this file checks C++17");
template class postern::basic_stream_socket<>;
template class postern::basic_acceptor<>;
template class postern::basic_datagram_socket<>;
