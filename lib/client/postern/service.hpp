// Part of postern.hpp: pending operations, and the service that waits for the library's doorbell in
// an execution context's reactor.
#ifndef POSTERN_SERVICE_HPP
#define POSTERN_SERVICE_HPP

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

#include "../postern.h"

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

}  // namespace postern

#endif
