// Postern sockets for Boost.Asio (1.79 or later). Header-only, C++17, namespace postern; link with
// libpostern.
//
//   postern::attach();                              // once a process
//   asio::io_context io;
//   postern::acceptor acceptor(io, {asio::ip::tcp::v4(), 80});
//   postern::stream_socket peer = co_await acceptor.async_accept(asio::use_awaitable);
//   co_await beast::http::async_read(peer, buffer, request, asio::use_awaitable);
//
// stream_socket is an AsyncReadStream, AsyncWriteStream, SyncReadStream and SyncWriteStream: what
// is written for asio::ip::tcp::socket works over it, Boost.Beast included. Completion tokens,
// associated executors, allocators and cancellation slots (all cancellation types) are honoured.
//
// THREADS: as Asio's own sockets: distinct objects are safe, a shared object is not, unless a
// strand guards it. An io_context may be run by several threads.
//
// No thread of its own: one service an execution context waits for the library's doorbell in the
// context's reactor. It is idle when no asynchronous operation is pending, and then run() returns
// as always. After activity it looks at the socket queue for spin_time() more before the thread may
// sleep.
#ifndef POSTERN_HPP
#define POSTERN_HPP

#include <sys/uio.h>

#include <array>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/asio/version.hpp>
#include <boost/system/system_error.hpp>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "postern.h"

namespace postern {

namespace asio = boost::asio;
using boost::system::error_code;
using boost::system::system_error;

// postern_attach() and postern_detach(); the first throws system_error with the daemon's words.
inline void attach(const char* path = nullptr) {
  if (postern_attach(path) == 0) return;
  const error_code ec(errno, boost::system::system_category());
  const std::string words = postern_last_error();
  throw system_error(ec, words.empty() ? "postern::attach" : words);
}
inline void detach() { postern_detach(); }

namespace detail {

inline error_code last_error() { return {errno, boost::system::system_category()}; }
inline bool would_block(const error_code& ec) {
  return ec == asio::error::would_block || ec == asio::error::try_again;
}
inline void throw_if(const error_code& ec, const char* what) {
  if (ec) throw system_error(ec, what);
}

// A pending asynchronous operation. Owned by the list it is in.
class operation {
 public:
  operation(const operation&) = delete;
  operation& operator=(const operation&) = delete;
  // Tries without blocking; true: the outcome is known.
  virtual bool attempt() = 0;
  // Hands the outcome to the handler's executor and frees the operation.
  virtual void complete() = 0;
  virtual void destroy() noexcept = 0;
  error_code ec;
  operation* next = nullptr;

 protected:
  operation() = default;
  ~operation() = default;
};

class operation_list {
 public:
  operation_list() = default;
  operation_list(operation_list&& o) noexcept
      : head_(std::exchange(o.head_, nullptr)), tail_(std::exchange(o.tail_, nullptr)) {}
  operation_list& operator=(operation_list&&) = delete;
  ~operation_list() {
    while (operation* op = pop()) op->destroy();
  }
  [[nodiscard]] bool empty() const { return head_ == nullptr; }
  [[nodiscard]] operation* front() const { return head_; }
  void push(operation* op) {
    op->next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = op;
    tail_ = op;
  }
  operation* pop() {
    operation* op = head_;
    if (op == nullptr) return nullptr;
    head_ = op->next;
    if (head_ == nullptr) tail_ = nullptr;
    return op;
  }
  bool remove(const operation* op) {
    operation* before = nullptr;
    for (operation* at = head_; at != nullptr; before = at, at = at->next) {
      if (at != op) continue;
      (before != nullptr ? before->next : head_) = at->next;
      if (tail_ == at) tail_ = before;
      return true;
    }
    return false;
  }
  void complete_all() {
    while (operation* op = pop()) op->complete();
  }

 private:
  operation* head_ = nullptr;
  operation* tail_ = nullptr;
};

enum direction { reading = 0, writing = 1 };  // accept reads, connect writes

// A socket as the service knows it.
struct socket_state {
  int fd = -1;
  bool user_non_blocking = false;
  std::array<operation_list, 2> pending;
  socket_state* previous = nullptr;  // the service's list of its sockets
  socket_state* following = nullptr;
};

}  // namespace detail

// Waits, for all Postern sockets of one execution context, in that context's reactor.
class service : public asio::execution_context::service {
 public:
  using key_type = service;
  inline static asio::execution_context::id id;

  explicit service(asio::execution_context& context) : asio::execution_context::service(context) {}
  ~service() override { postern_queue_destroy(queue_); }
  service(const service&) = delete;
  service& operator=(const service&) = delete;

  // How long after activity the service looks again before it lets the thread sleep; 0: not at all.
  void spin_time(std::chrono::microseconds time) {
    const std::lock_guard lock(mutex_);
    spin_ = time;
  }
  [[nodiscard]] std::chrono::microseconds spin_time() const {
    const std::lock_guard lock(mutex_);
    return spin_;
  }

  // ---- for the sockets ----

  void add(const asio::any_io_executor& executor, detail::socket_state& state, error_code& ec) {
    const std::lock_guard lock(mutex_);
    if (!open_queue(executor)) {
      ec = detail::last_error();
      return;
    }
    const uint32_t events = POLLIN | POLLOUT | POLLRDHUP | POSTERN_EDGE;
    const auto data = reinterpret_cast<uintptr_t>(&state);
    if (postern_queue_add(queue_, state.fd, events, data) != 0) {
      ec = detail::last_error();
      return;
    }
    ec = {};
    state.previous = nullptr;
    state.following = sockets_;
    if (sockets_ != nullptr) sockets_->previous = &state;
    sockets_ = &state;
  }

  // Aborts what is pending and takes the socket out of the queue. The caller closes the descriptor.
  void remove(detail::socket_state& state) {
    cancel(state);
    const std::lock_guard lock(mutex_);
    if (queue_ != nullptr) postern_queue_remove(queue_, state.fd);
    (state.previous != nullptr ? state.previous->following : sockets_) = state.following;
    if (state.following != nullptr) state.following->previous = state.previous;
  }

  void start(detail::socket_state& state, detail::direction direction, detail::operation* op) {
    std::unique_lock lock(mutex_);
    if (state.fd < 0) {
      op->ec = asio::error::bad_descriptor;
    } else if (!state.pending[direction].empty() || !op->attempt()) {
      state.pending[direction].push(op);
      ++pending_;
      keep_looking();
      return;
    }
    lock.unlock();
    op->complete();
  }

  void cancel(detail::socket_state& state) {
    detail::operation_list done;
    {
      const std::lock_guard lock(mutex_);
      for (auto& list : state.pending) {
        while (detail::operation* op = list.pop()) {
          op->ec = asio::error::operation_aborted;
          done.push(op);
          --pending_;
        }
      }
      stop_if_idle();
    }
    done.complete_all();
  }

  void cancel(detail::socket_state& state, detail::operation* op) {
    {
      const std::lock_guard lock(mutex_);
      if (!state.pending[0].remove(op) && !state.pending[1].remove(op)) return;
      op->ec = asio::error::operation_aborted;
      --pending_;
      stop_if_idle();
    }
    op->complete();
  }

 private:
  enum class look { none, posted, waiting, cancelled };

  void shutdown() noexcept override {
    detail::operation_list doomed;  // destroyed after the lock is released: handlers own sockets
    const std::lock_guard lock(mutex_);
    shut_ = true;
    for (auto* state = sockets_; state != nullptr; state = state->following) {
      for (auto& list : state->pending) {
        while (detail::operation* op = list.pop()) doomed.push(op);
      }
    }
    pending_ = 0;
    if (descriptor_) descriptor_->release();
    descriptor_.reset();
  }

  // A queue that outlived a detach is replaced.
  bool open_queue(const asio::any_io_executor& executor) {
    if (queue_ != nullptr && postern_queue_fd(queue_) >= 0) return true;
    if (look_ != look::none) return errno = EBUSY, false;
    if (descriptor_) descriptor_->release();
    descriptor_.reset();
    postern_queue_destroy(queue_);
    queue_ = postern_queue_create();
    if (queue_ == nullptr) return false;
    const int fd = postern_queue_fd(queue_);
    if (fd < 0) return false;
    executor_ = executor;
    descriptor_.emplace(executor, fd);
    return true;
  }

  // Under mutex_: sees to it that somebody looks at the queue while operations are pending.
  void keep_looking() {
    if (pending_ == 0 || look_ == look::posted || look_ == look::waiting || shut_) return;
    if (look_ == look::cancelled) return;  // its handler comes and calls us
    if (std::chrono::steady_clock::now() < spin_until_ || postern_queue_arm(queue_) != 0) {
      look_ = look::posted;
      asio::post(executor_, [this] { take(); });
    } else {
      look_ = look::waiting;
      descriptor_->async_wait(asio::posix::stream_descriptor::wait_read,
                              [this](const error_code&) { take(); });
    }
  }

  void stop_if_idle() {
    if (pending_ != 0 || look_ != look::waiting || shut_) return;
    look_ = look::cancelled;
    descriptor_->cancel();
  }

  void attempt_all(detail::operation_list& list, detail::operation_list& done) {
    while (!list.empty() && list.front()->attempt()) {
      done.push(list.pop());
      --pending_;
    }
  }

  // Takes what the queue has to report and completes operations.
  void take() {
    detail::operation_list done;
    {
      const std::lock_guard lock(mutex_);
      if (shut_) return;
      look_ = look::none;
      std::array<postern_event, 64> events;
      for (int round = 0; round < 16; ++round) {  // then others of the context have their turn
        const int n = postern_queue_wait(queue_, events.data(), static_cast<int>(events.size()), 0);
        if (n <= 0) break;
        for (int i = 0; i < n; ++i) {
          auto* state = reinterpret_cast<detail::socket_state*>(
              static_cast<uintptr_t>(events[static_cast<size_t>(i)].data));
          attempt_all(state->pending[detail::reading], done);
          attempt_all(state->pending[detail::writing], done);
        }
      }
      if (!done.empty()) spin_until_ = std::chrono::steady_clock::now() + spin_;
      keep_looking();
    }
    done.complete_all();
  }

  mutable std::mutex mutex_;
  postern_queue* queue_ = nullptr;
  detail::socket_state* sockets_ = nullptr;
  asio::any_io_executor executor_;
  std::optional<asio::posix::stream_descriptor> descriptor_;
  look look_ = look::none;
  bool shut_ = false;
  size_t pending_ = 0;
  std::chrono::microseconds spin_{20};
  std::chrono::steady_clock::time_point spin_until_{};
};

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

// ---- streams ----

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

// ---- datagrams ----

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

using stream_socket = basic_stream_socket<>;
using acceptor = basic_acceptor<>;
using datagram_socket = basic_datagram_socket<>;

}  // namespace postern

#endif
