// Part of postern.hpp: stream_socket and acceptor.
#ifndef POSTERN_STREAM_HPP
#define POSTERN_STREAM_HPP

#include "socket.hpp"

namespace postern {

template <class Executor = asio::any_io_executor>
class basic_stream_socket : public detail::basic_socket<asio::ip::tcp, Executor> {
  using base = detail::basic_socket<asio::ip::tcp, Executor>;

 public:
  using endpoint_type = typename base::endpoint_type;
  using lowest_layer_type = basic_stream_socket;
  template <class Other>
  struct rebind_executor {
    using other = basic_stream_socket<Other>;
  };

  explicit basic_stream_socket(const Executor& executor) : base(executor) {}
  template <class Context, class = detail::if_context<void, Context>>
  explicit basic_stream_socket(Context& context) : base(context.get_executor()) {}
  basic_stream_socket(const Executor& executor, const asio::ip::tcp& protocol) : base(executor) {
    this->open(protocol);
  }

  lowest_layer_type& lowest_layer() { return *this; }
  const lowest_layer_type& lowest_layer() const { return *this; }

  void connect(const endpoint_type& endpoint, error_code& ec) {
    this->open_for(endpoint, ec);
    if (ec) return;
    detail::connect_body<endpoint_type> body(this->state_, endpoint);
    detail::until_done(*this->state_, POLLOUT, ec, [&] { return body.attempt(ec); });
  }
  void connect(const endpoint_type& endpoint) {
    error_code ec;
    connect(endpoint, ec);
    detail::throw_if(ec, "connect");
  }
  // Opens the socket if it is not. void(error_code).
  template <class Token = asio::default_completion_token_t<Executor>>
  auto async_connect(const endpoint_type& endpoint, Token&& token = {}) {
    error_code ignored;  // an unopened socket completes with bad_descriptor
    this->open_for(endpoint, ignored);
    return this->template start<void(error_code)>(
        detail::writing, detail::connect_body<endpoint_type>(this->state_, endpoint), token);
  }

  template <class Buffers>
  size_t read_some(const Buffers& buffers, error_code& ec) {
    size_t n = 0;
    detail::until_done(*this->state_, POLLIN, ec,
                       [&] { return detail::read_some(this->state_->fd, buffers, ec, n); });
    return n;
  }
  template <class Buffers>
  size_t read_some(const Buffers& buffers) {
    error_code ec;
    const size_t n = read_some(buffers, ec);
    detail::throw_if(ec, "read_some");
    return n;
  }
  template <class Buffers>
  size_t write_some(const Buffers& buffers, error_code& ec) {
    size_t n = 0;
    detail::until_done(*this->state_, POLLOUT, ec,
                       [&] { return detail::write_some(this->state_->fd, buffers, ec, n); });
    return n;
  }
  template <class Buffers>
  size_t write_some(const Buffers& buffers) {
    error_code ec;
    const size_t n = write_some(buffers, ec);
    detail::throw_if(ec, "write_some");
    return n;
  }
  // void(error_code, size_t). The memory must stay until completion.
  template <class Buffers, class Token = asio::default_completion_token_t<Executor>>
  auto async_read_some(const Buffers& buffers, Token&& token = {}) {
    return this->template start<void(error_code, size_t)>(
        detail::reading, detail::read_body<Buffers>(this->state_, buffers), token);
  }
  template <class Buffers, class Token = asio::default_completion_token_t<Executor>>
  auto async_write_some(const Buffers& buffers, Token&& token = {}) {
    return this->template start<void(error_code, size_t)>(
        detail::writing, detail::write_body<Buffers>(this->state_, buffers), token);
  }

  void shutdown(asio::socket_base::shutdown_type what, error_code& ec) {
    this->check(postern_shutdown(this->state_->fd, static_cast<int>(what)), ec);
  }
  void shutdown(asio::socket_base::shutdown_type what) {
    error_code ec;
    shutdown(what, ec);
    detail::throw_if(ec, "shutdown");
  }
  [[nodiscard]] endpoint_type remote_endpoint(error_code& ec) const {
    return this->name(&postern_getpeername, ec);
  }
  [[nodiscard]] endpoint_type remote_endpoint() const {
    error_code ec;
    endpoint_type e = remote_endpoint(ec);
    detail::throw_if(ec, "remote_endpoint");
    return e;
  }
  [[nodiscard]] size_t available(error_code& ec) const {
    const int n = postern_available(this->state_->fd);
    this->check(n < 0 ? -1 : 0, ec);
    return n < 0 ? 0 : static_cast<size_t>(n);
  }

 private:
  template <class>
  friend class basic_acceptor;
};

// ---- acceptor ----

template <class Executor = asio::any_io_executor>
class basic_acceptor : public detail::basic_socket<asio::ip::tcp, Executor> {
  using base = detail::basic_socket<asio::ip::tcp, Executor>;

  static int accept_once(int fd, asio::ip::tcp::endpoint* peer, error_code& ec) {
    asio::ip::tcp::endpoint from;
    auto length = static_cast<socklen_t>(from.capacity());
    const int accepted = postern_accept4(fd, from.data(), &length, SOCK_NONBLOCK);
    ec = accepted >= 0 ? error_code() : detail::last_error();
    if (accepted >= 0 && peer != nullptr) {
      from.resize(length);
      *peer = from;
    }
    return accepted;
  }

  // Into a socket that the caller keeps.
  template <class Peer>
  struct into_body : detail::plain_result {
    into_body(std::shared_ptr<detail::socket_state> s, Peer& p, asio::ip::tcp::endpoint* e)
        : state(std::move(s)), peer(&p), endpoint(e) {}
    bool attempt(error_code& ec) {
      const int fd = accept_once(state->fd, endpoint, ec);
      if (fd < 0) return !detail::would_block(ec);
      accepted = fd;
      return true;
    }
    template <class Handler>
    void deliver(Handler& handler, error_code ec) {
      if (accepted >= 0) peer->adopt(accepted, ec);
      std::move(handler)(ec);
    }
    std::shared_ptr<detail::socket_state> state;
    Peer* peer;
    asio::ip::tcp::endpoint* endpoint;
    int accepted = -1;
  };

  // As a new socket, handed to the handler.
  template <class PeerExecutor>
  struct new_body {
    new_body(std::shared_ptr<detail::socket_state> s, const PeerExecutor& e)
        : state(std::move(s)), executor(e) {}
    bool attempt(error_code& ec) {
      accepted = accept_once(state->fd, nullptr, ec);
      return accepted >= 0 || !detail::would_block(ec);
    }
    template <class Handler>
    void deliver(Handler& handler, error_code ec) {
      basic_stream_socket<PeerExecutor> peer(executor);
      if (accepted >= 0) peer.adopt(accepted, ec);
      std::move(handler)(ec, std::move(peer));
    }
    std::shared_ptr<detail::socket_state> state;
    PeerExecutor executor;
    int accepted = -1;
  };

 public:
  using endpoint_type = typename base::endpoint_type;
  template <class Other>
  struct rebind_executor {
    using other = basic_acceptor<Other>;
  };

  explicit basic_acceptor(const Executor& executor) : base(executor) {}
  template <class Context, class = detail::if_context<void, Context>>
  explicit basic_acceptor(Context& context) : base(context.get_executor()) {}
  // Opens, binds and listens.
  basic_acceptor(const Executor& executor, const endpoint_type& endpoint, bool reuse_addr = true)
      : base(executor) {
    this->open(endpoint.protocol());
    if (reuse_addr) this->set_option(asio::socket_base::reuse_address(true));
    this->bind(endpoint);
    listen();
  }
  template <class Context, class = detail::if_context<void, Context>>
  basic_acceptor(Context& context, const endpoint_type& endpoint, bool reuse_addr = true)
      : basic_acceptor(Executor(context.get_executor()), endpoint, reuse_addr) {}

  void listen(int backlog, error_code& ec) {
    this->check(postern_listen(this->state_->fd, backlog), ec);
  }
  void listen(int backlog = asio::socket_base::max_listen_connections) {
    error_code ec;
    listen(backlog, ec);
    detail::throw_if(ec, "listen");
  }

  template <class PeerExecutor>
  void accept(basic_stream_socket<PeerExecutor>& peer, error_code& ec) {
    int fd = -1;
    detail::until_done(*this->state_, POLLIN, ec, [&] {
      fd = accept_once(this->state_->fd, nullptr, ec);
      return fd >= 0 || !detail::would_block(ec);
    });
    if (fd >= 0) peer.adopt(fd, ec);
  }
  template <class PeerExecutor>
  void accept(basic_stream_socket<PeerExecutor>& peer) {
    error_code ec;
    accept(peer, ec);
    detail::throw_if(ec, "accept");
  }
  basic_stream_socket<Executor> accept() {
    basic_stream_socket<Executor> peer(this->executor_);
    accept(peer);
    return peer;
  }

  // void(error_code). `peer` must be closed and stay until completion.
  template <class PeerExecutor, class Token = asio::default_completion_token_t<Executor>>
  auto async_accept(basic_stream_socket<PeerExecutor>& peer, Token&& token = {}) {
    using body = into_body<basic_stream_socket<PeerExecutor>>;
    return this->template start<void(error_code)>(detail::reading,
                                                  body(this->state_, peer, nullptr), token);
  }
  template <class PeerExecutor, class Token = asio::default_completion_token_t<Executor>>
  auto async_accept(basic_stream_socket<PeerExecutor>& peer, endpoint_type& endpoint,
                    Token&& token = {}) {
    using body = into_body<basic_stream_socket<PeerExecutor>>;
    return this->template start<void(error_code)>(detail::reading,
                                                  body(this->state_, peer, &endpoint), token);
  }
  // void(error_code, basic_stream_socket<Executor>).
  template <class Token = asio::default_completion_token_t<Executor>>
  auto async_accept(Token&& token = {}) {
    return this->template start<void(error_code, basic_stream_socket<Executor>)>(
        detail::reading, new_body<Executor>(this->state_, this->executor_), token);
  }
  // The same for a socket with another executor: a strand, or another context's.
  template <class PeerExecutor, class Token,
            class = std::enable_if_t<asio::execution::is_executor<PeerExecutor>::value>>
  auto async_accept(const PeerExecutor& executor, Token&& token) {
    return this->template start<void(error_code, basic_stream_socket<PeerExecutor>)>(
        detail::reading, new_body<PeerExecutor>(this->state_, executor), token);
  }
};

}  // namespace postern

#endif
