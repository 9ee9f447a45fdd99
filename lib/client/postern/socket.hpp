// Part of postern.hpp: what starts and completes operations, and what all sockets share.
#ifndef POSTERN_SOCKET_HPP
#define POSTERN_SOCKET_HPP

#include "service.hpp"

namespace postern {

namespace detail {

// What a posted completion calls; carries the handler's allocator.
template <class Handler, class Body>
struct completion {
  using allocator_type = asio::associated_allocator_t<Handler>;
  allocator_type get_allocator() const noexcept { return asio::get_associated_allocator(handler); }
  void operator()() { body.deliver(handler, ec); }
  Handler handler;
  Body body;
  error_code ec;
};

// Body: bool attempt(error_code&); void deliver(Handler&, const error_code&).
template <class Handler, class IoExecutor, class Body>
class pending_operation final : public operation {
  using handler_executor = asio::associated_executor_t<Handler, IoExecutor>;
  using allocator = typename std::allocator_traits<
      asio::associated_allocator_t<Handler>>::template rebind_alloc<pending_operation>;

 public:
  static pending_operation* create(Handler handler, const IoExecutor& executor, Body body) {
    allocator alloc(asio::get_associated_allocator(handler));
    pending_operation* op = std::allocator_traits<allocator>::allocate(alloc, 1);
    return new (op) pending_operation(std::move(handler), executor, std::move(body));
  }

  bool attempt() override { return body_.attempt(ec); }

  void complete() override {
    asio::get_associated_cancellation_slot(handler_).clear();
    auto io_work = std::move(io_work_);
    auto handler_work = std::move(handler_work_);
    completion<Handler, Body> done{std::move(handler_), std::move(body_), ec};
    free(done.get_allocator());
    asio::post(handler_work.get_executor(), std::move(done));
  }

  void destroy() noexcept override {
    Handler handler(std::move(handler_));  // its memory outlives the operation's
    free(asio::get_associated_allocator(handler));
  }

  Handler& handler() { return handler_; }

 private:
  pending_operation(Handler handler, const IoExecutor& executor, Body body)
      : handler_(std::move(handler)),
        body_(std::move(body)),
        io_work_(executor),
        handler_work_(asio::get_associated_executor(handler_, executor)) {}
  ~pending_operation() = default;

  template <class Alloc>
  void free(const Alloc& from) {
    allocator alloc(from);
    this->~pending_operation();
    std::allocator_traits<allocator>::deallocate(alloc, this, 1);
  }

  Handler handler_;
  Body body_;
  asio::executor_work_guard<IoExecutor> io_work_;
  asio::executor_work_guard<handler_executor> handler_work_;
};

// Starts an operation on a socket: what async_initiate() calls.
template <class Handler, class IoExecutor, class Body>
void initiate(Handler handler, service& svc, std::shared_ptr<socket_state> state,
              const IoExecutor& executor, direction dir, Body body) {
  using op_type = pending_operation<Handler, IoExecutor, Body>;
  op_type* op = op_type::create(std::move(handler), executor, std::move(body));
  auto slot = asio::get_associated_cancellation_slot(op->handler());
  if (slot.is_connected()) {
    slot.assign([&svc, state, op](asio::cancellation_type type) {
      if (type != asio::cancellation_type::none) svc.cancel(*state, op);
    });
  }
  svc.start(*state, dir, op);
}

template <class Buffers>
class iovecs {
 public:
  explicit iovecs(const Buffers& buffers) {
    const auto end = asio::buffer_sequence_end(buffers);
    for (auto it = asio::buffer_sequence_begin(buffers); it != end && count_ < vec_.size(); ++it) {
      using buffer_type =
          std::conditional_t<std::is_convertible_v<decltype(*it), asio::mutable_buffer>,
                             asio::mutable_buffer, asio::const_buffer>;
      const buffer_type b(*it);
      if (b.size() == 0) continue;
      vec_[count_++] = {const_cast<void*>(static_cast<const void*>(b.data())), b.size()};
    }
  }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] msghdr message() {
    msghdr m{};
    m.msg_iov = vec_.data();
    m.msg_iovlen = count_;
    return m;
  }

 private:
  std::array<iovec, 64> vec_;
  size_t count_ = 0;
};

// One receive on a stream; false: would block.
template <class Buffers>
bool read_some(int fd, const Buffers& buffers, error_code& ec, size_t& n) {
  iovecs<Buffers> vec(buffers);
  ec = {};
  n = 0;
  if (vec.empty()) return true;
  msghdr m = vec.message();
  const ssize_t rc = postern_recvmsg(fd, &m, MSG_DONTWAIT);
  if (rc > 0) {
    n = static_cast<size_t>(rc);
    return true;
  }
  ec = rc == 0 ? error_code(asio::error::eof) : last_error();
  return !would_block(ec);
}

template <class Buffers>
bool write_some(int fd, const Buffers& buffers, error_code& ec, size_t& n) {
  iovecs<Buffers> vec(buffers);
  ec = {};
  n = 0;
  if (vec.empty()) return true;
  msghdr m = vec.message();
  const ssize_t rc = postern_sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (rc >= 0) {
    n = static_cast<size_t>(rc);
    return true;
  }
  ec = last_error();
  return !would_block(ec);
}

// Repeats `once` until it does not block, unless the socket is non-blocking for its user.
template <class Once>
void until_done(const socket_state& state, short events, error_code& ec, Once once) {
  while (!once()) {
    if (state.user_non_blocking) return;
    postern_pollfd p{state.fd, events, 0};
    if (postern_poll(&p, 1, -1) < 0 && errno != EINTR) {
      ec = last_error();
      return;
    }
  }
}

struct transfer_result {
  size_t n = 0;
  template <class Handler>
  void deliver(Handler& handler, const error_code& ec) {
    std::move(handler)(ec, n);
  }
};

template <class Buffers>
struct read_body : transfer_result {
  read_body(std::shared_ptr<socket_state> s, const Buffers& b) : state(std::move(s)), buffers(b) {}
  bool attempt(error_code& ec) { return read_some(state->fd, buffers, ec, n); }
  std::shared_ptr<socket_state> state;
  Buffers buffers;
};

template <class Buffers>
struct write_body : transfer_result {
  write_body(std::shared_ptr<socket_state> s, const Buffers& b) : state(std::move(s)), buffers(b) {}
  bool attempt(error_code& ec) { return write_some(state->fd, buffers, ec, n); }
  std::shared_ptr<socket_state> state;
  Buffers buffers;
};

struct plain_result {
  template <class Handler>
  void deliver(Handler& handler, const error_code& ec) {
    std::move(handler)(ec);
  }
};

template <class Endpoint>
struct connect_body : plain_result {
  connect_body(std::shared_ptr<socket_state> s, const Endpoint& e)
      : state(std::move(s)), endpoint(e) {}
  // The first call begins; the next ones tell the outcome, after which the socket may try again.
  bool attempt(error_code& ec) {
    const int rc =
        postern_connect(state->fd, endpoint.data(), static_cast<socklen_t>(endpoint.size()));
    ec = rc == 0 ? error_code() : last_error();
    const bool under_way =
        ec == asio::error::in_progress || (started && ec == asio::error::already_started);
    started = true;
    return !under_way;
  }
  std::shared_ptr<socket_state> state;
  Endpoint endpoint;
  bool started = false;
};

struct wait_body : plain_result {
  wait_body(std::shared_ptr<socket_state> s, short e) : state(std::move(s)), events(e) {}
  bool attempt(error_code& ec) {
    postern_pollfd p{state->fd, events, 0};
    const int rc = postern_poll(&p, 1, 0);
    ec = rc < 0 ? last_error() : error_code();
    return rc != 0;
  }
  std::shared_ptr<socket_state> state;
  short events;
};

inline short events_of(asio::socket_base::wait_type what) {
  return what == asio::socket_base::wait_read    ? POLLIN
         : what == asio::socket_base::wait_write ? POLLOUT
                                                 : POLLERR;
}

// What all socket types share.
template <class Protocol, class Executor>
class basic_socket : public asio::socket_base {
 public:
  using executor_type = Executor;
  using protocol_type = Protocol;
  using endpoint_type = typename Protocol::endpoint;
  using native_handle_type = int;

  basic_socket(const basic_socket&) = delete;
  basic_socket& operator=(const basic_socket&) = delete;
  // The moved-from object is closed and may be opened again.
  basic_socket(basic_socket&& other)
      : executor_(other.executor_), service_(other.service_), state_(other.state_) {
    other.state_ = std::make_shared<socket_state>();
  }
  basic_socket& operator=(basic_socket&& other) {
    if (this == &other) return *this;
    error_code ignored;
    close(ignored);
    executor_ = other.executor_;
    service_ = other.service_;
    state_ = std::exchange(other.state_, std::make_shared<socket_state>());
    return *this;
  }
  ~basic_socket() {
    error_code ignored;
    close(ignored);
  }

  executor_type get_executor() noexcept { return executor_; }
  [[nodiscard]] bool is_open() const noexcept { return state_->fd >= 0; }
  // The descriptor of postern.h; owned by this object.
  native_handle_type native_handle() noexcept { return state_->fd; }

  void open(const protocol_type& protocol, error_code& ec) {
    if (is_open()) {
      ec = asio::error::already_open;
      return;
    }
    adopt(postern_socket(protocol.family(), protocol.type() | SOCK_NONBLOCK, protocol.protocol()),
          ec);
  }
  void open(const protocol_type& protocol = protocol_type::v4()) {
    error_code ec;
    open(protocol, ec);
    throw_if(ec, "open");
  }
  // Takes over a descriptor of postern.h and makes it non-blocking.
  void assign(const protocol_type&, native_handle_type fd, error_code& ec) {
    if (is_open()) {
      ec = asio::error::already_open;
      return;
    }
    adopt(postern_set_nonblocking(fd, 1) == 0 ? fd : -1, ec);
  }

  // Pending operations end with operation_aborted.
  void close(error_code& ec) {
    ec = {};
    if (!is_open()) return;
    service_->remove(*state_);
    const int fd = std::exchange(state_->fd, -1);
    if (postern_close(fd) != 0) ec = last_error();
    state_->user_non_blocking = false;
  }
  void close() {
    error_code ec;
    close(ec);
    throw_if(ec, "close");
  }
  void cancel(error_code& ec) {
    ec = is_open() ? error_code() : error_code(asio::error::bad_descriptor);
    if (!ec) service_->cancel(*state_);
  }
  void cancel() {
    error_code ec;
    cancel(ec);
    throw_if(ec, "cancel");
  }

  void bind(const endpoint_type& endpoint, error_code& ec) {
    check(postern_bind(state_->fd, endpoint.data(), static_cast<socklen_t>(endpoint.size())), ec);
  }
  void bind(const endpoint_type& endpoint) {
    error_code ec;
    bind(endpoint, ec);
    throw_if(ec, "bind");
  }

  template <class Option>
  void set_option(const Option& option, error_code& ec) {
    const protocol_type p = protocol();
    check(postern_setsockopt(state_->fd, option.level(p), option.name(p), option.data(p),
                             static_cast<socklen_t>(option.size(p))),
          ec);
  }
  template <class Option>
  void set_option(const Option& option) {
    error_code ec;
    set_option(option, ec);
    throw_if(ec, "set_option");
  }
  template <class Option>
  void get_option(Option& option, error_code& ec) const {
    const protocol_type p = protocol();
    auto length = static_cast<socklen_t>(option.size(p));
    check(postern_getsockopt(state_->fd, option.level(p), option.name(p), option.data(p), &length),
          ec);
    if (!ec) option.resize(p, length);
  }
  template <class Option>
  void get_option(Option& option) const {
    error_code ec;
    get_option(option, ec);
    throw_if(ec, "get_option");
  }

  [[nodiscard]] endpoint_type local_endpoint(error_code& ec) const {
    return name(&postern_getsockname, ec);
  }
  [[nodiscard]] endpoint_type local_endpoint() const {
    error_code ec;
    endpoint_type e = local_endpoint(ec);
    throw_if(ec, "local_endpoint");
    return e;
  }

  // The user's view only: asynchronous operations never block.
  [[nodiscard]] bool non_blocking() const { return state_->user_non_blocking; }
  void non_blocking(bool on, error_code& ec) {
    ec = is_open() ? error_code() : error_code(asio::error::bad_descriptor);
    if (!ec) state_->user_non_blocking = on;
  }
  void non_blocking(bool on) {
    error_code ec;
    non_blocking(on, ec);
    throw_if(ec, "non_blocking");
  }

  void wait(wait_type what, error_code& ec) {
    wait_body body(state_, events_of(what));
    until_done(*state_, body.events, ec, [&] { return body.attempt(ec); });
  }
  void wait(wait_type what) {
    error_code ec;
    wait(what, ec);
    throw_if(ec, "wait");
  }
  template <class Token = asio::default_completion_token_t<Executor>>
  auto async_wait(wait_type what, Token&& token = {}) {
    return start<void(error_code)>(what == wait_write ? writing : reading,
                                   wait_body(state_, events_of(what)), token);
  }

 protected:
  explicit basic_socket(const Executor& executor)
      : executor_(executor),
        service_(&asio::use_service<service>(asio::query(executor, asio::execution::context))),
        state_(std::make_shared<socket_state>()) {}

  // Takes over a non-blocking descriptor; -1: errno tells why there is none.
  void adopt(int fd, error_code& ec) {
    if (fd < 0) {
      ec = last_error();
      return;
    }
    state_->fd = fd;
    service_->add(executor_, *state_, ec);
    if (!ec) return;
    state_->fd = -1;
    postern_close(fd);
  }

  void open_for(const endpoint_type& endpoint, error_code& ec) {
    ec = {};
    if (!is_open()) open(endpoint.protocol(), ec);
  }

  template <class Signature, class Body, class Token>
  auto start(direction dir, Body body, Token& token) {
    return asio::async_initiate<Token, Signature>(
        [](auto handler, service* svc, std::shared_ptr<socket_state> state, Executor executor,
           direction d, Body b) {
          initiate(std::move(handler), *svc, std::move(state), executor, d, std::move(b));
        },
        token, service_, state_, executor_, dir, std::move(body));
  }

  static void check(int rc, error_code& ec) { ec = rc == 0 ? error_code() : last_error(); }

  [[nodiscard]] endpoint_type name(int (*f)(int, sockaddr*, socklen_t*), error_code& ec) const {
    endpoint_type e;
    auto length = static_cast<socklen_t>(e.capacity());
    check(f(state_->fd, e.data(), &length), ec);
    if (!ec) e.resize(length);
    return e;
  }

  [[nodiscard]] protocol_type protocol() const {
    int domain = AF_INET;
    socklen_t length = sizeof domain;
    (void)postern_getsockopt(state_->fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
    return domain == AF_INET6 ? protocol_type::v6() : protocol_type::v4();
  }

  template <class, class>
  friend class basic_socket;

  Executor executor_;
  service* service_;
  std::shared_ptr<socket_state> state_;
};

template <class T, class Context>
using if_context = std::enable_if_t<std::is_convertible_v<Context&, asio::execution_context&>, T>;

}  // namespace detail

}  // namespace postern

#endif
