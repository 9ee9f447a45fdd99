// Part of postern.hpp: datagram_socket.
#ifndef POSTERN_DATAGRAM_HPP
#define POSTERN_DATAGRAM_HPP

#include "socket.hpp"

namespace postern {

template <class Executor = asio::any_io_executor>
class basic_datagram_socket : public detail::basic_socket<asio::ip::udp, Executor> {
  using base = detail::basic_socket<asio::ip::udp, Executor>;
  using udp_endpoint = asio::ip::udp::endpoint;
  using state_ptr = std::shared_ptr<detail::socket_state>;

  template <class Buffers>
  static bool send_once(int fd, const Buffers& buffers, const udp_endpoint* to, int flags,
                        error_code& ec, size_t& n) {
    detail::iovecs<Buffers> vec(buffers);
    msghdr m = vec.message();
    if (to != nullptr) {
      m.msg_name = const_cast<sockaddr*>(static_cast<const sockaddr*>(to->data()));
      m.msg_namelen = static_cast<socklen_t>(to->size());
    }
    const ssize_t rc = postern_sendmsg(fd, &m, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    ec = rc >= 0 ? error_code() : detail::last_error();
    n = rc >= 0 ? static_cast<size_t>(rc) : 0;
    return !detail::would_block(ec);
  }

  template <class Buffers>
  static bool receive_once(int fd, const Buffers& buffers, udp_endpoint* from, int flags,
                           error_code& ec, size_t& n) {
    detail::iovecs<Buffers> vec(buffers);
    msghdr m = vec.message();
    udp_endpoint sender;
    m.msg_name = sender.data();
    m.msg_namelen = static_cast<socklen_t>(sender.capacity());
    const ssize_t rc = postern_recvmsg(fd, &m, flags | MSG_DONTWAIT);
    ec = rc >= 0 ? error_code() : detail::last_error();
    n = rc >= 0 ? static_cast<size_t>(rc) : 0;
    if (rc >= 0 && from != nullptr) {
      sender.resize(m.msg_namelen);
      *from = sender;
    }
    return !detail::would_block(ec);
  }

  template <class Buffers>
  struct send_body : detail::transfer_result {
    send_body(state_ptr s, const Buffers& b, std::optional<udp_endpoint> e, int f)
        : state(std::move(s)), buffers(b), to(std::move(e)), flags(f) {}
    bool attempt(error_code& ec) {
      return send_once(state->fd, buffers, to ? &*to : nullptr, flags, ec, this->n);
    }
    state_ptr state;
    Buffers buffers;
    std::optional<udp_endpoint> to;
    int flags;
  };

  template <class Buffers>
  struct receive_body : detail::transfer_result {
    receive_body(state_ptr s, const Buffers& b, udp_endpoint* e, int f)
        : state(std::move(s)), buffers(b), from(e), flags(f) {}
    bool attempt(error_code& ec) {
      return receive_once(state->fd, buffers, from, flags, ec, this->n);
    }
    state_ptr state;
    Buffers buffers;
    udp_endpoint* from;
    int flags;
  };

 public:
  using endpoint_type = udp_endpoint;
  template <class Other>
  struct rebind_executor {
    using other = basic_datagram_socket<Other>;
  };

  explicit basic_datagram_socket(const Executor& executor) : base(executor) {}
  template <class Context, class = detail::if_context<void, Context>>
  explicit basic_datagram_socket(Context& context) : base(context.get_executor()) {}
  // Opens and binds.
  basic_datagram_socket(const Executor& executor, const endpoint_type& endpoint) : base(executor) {
    this->open(endpoint.protocol());
    this->bind(endpoint);
  }
  template <class Context, class = detail::if_context<void, Context>>
  basic_datagram_socket(Context& context, const endpoint_type& endpoint)
      : basic_datagram_socket(Executor(context.get_executor()), endpoint) {}

  void connect(const endpoint_type& endpoint, error_code& ec) {
    this->open_for(endpoint, ec);
    if (ec) return;
    this->check(
        postern_connect(this->state_->fd, endpoint.data(), static_cast<socklen_t>(endpoint.size())),
        ec);
  }
  void connect(const endpoint_type& endpoint) {
    error_code ec;
    connect(endpoint, ec);
    detail::throw_if(ec, "connect");
  }
  [[nodiscard]] endpoint_type remote_endpoint(error_code& ec) const {
    return this->name(&postern_getpeername, ec);
  }

  template <class Buffers>
  size_t send_to(const Buffers& buffers, const endpoint_type& to, int flags, error_code& ec) {
    size_t n = 0;
    detail::until_done(*this->state_, POLLOUT, ec,
                       [&] { return send_once(this->state_->fd, buffers, &to, flags, ec, n); });
    return n;
  }
  template <class Buffers>
  size_t send_to(const Buffers& buffers, const endpoint_type& to) {
    error_code ec;
    const size_t n = send_to(buffers, to, 0, ec);
    detail::throw_if(ec, "send_to");
    return n;
  }
  template <class Buffers>
  size_t receive_from(const Buffers& buffers, endpoint_type& from, int flags, error_code& ec) {
    size_t n = 0;
    detail::until_done(*this->state_, POLLIN, ec, [&] {
      return receive_once(this->state_->fd, buffers, &from, flags, ec, n);
    });
    return n;
  }
  template <class Buffers>
  size_t receive_from(const Buffers& buffers, endpoint_type& from) {
    error_code ec;
    const size_t n = receive_from(buffers, from, 0, ec);
    detail::throw_if(ec, "receive_from");
    return n;
  }

  // All: void(error_code, size_t). Buffers' memory, and `from`, must stay until completion.
  template <class Buffers, class Token = asio::default_completion_token_t<Executor>>
  auto async_send_to(const Buffers& buffers, const endpoint_type& to, Token&& token = {}) {
    return this->template start<void(error_code, size_t)>(
        detail::writing, send_body<Buffers>(this->state_, buffers, to, 0), token);
  }
  template <class Buffers, class Token = asio::default_completion_token_t<Executor>>
  auto async_send(const Buffers& buffers, Token&& token = {}) {
    return this->template start<void(error_code, size_t)>(
        detail::writing, send_body<Buffers>(this->state_, buffers, std::nullopt, 0), token);
  }
  template <class Buffers, class Token = asio::default_completion_token_t<Executor>>
  auto async_receive_from(const Buffers& buffers, endpoint_type& from, Token&& token = {}) {
    return this->template start<void(error_code, size_t)>(
        detail::reading, receive_body<Buffers>(this->state_, buffers, &from, 0), token);
  }
  template <class Buffers, class Token = asio::default_completion_token_t<Executor>>
  auto async_receive(const Buffers& buffers, Token&& token = {}) {
    return this->template start<void(error_code, size_t)>(
        detail::reading, receive_body<Buffers>(this->state_, buffers, nullptr, 0), token);
  }
};

}  // namespace postern

#endif
