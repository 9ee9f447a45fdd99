#include "daemon/worker_calls.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace postern {

WorkerCalls::WorkerCalls(boost::asio::io_context& io, std::vector<Worker*> workers,
                         Evicted on_evicted)
    : on_evicted_(std::move(on_evicted)) {
  lanes_.reserve(workers.size());
  for (Worker* worker : workers) {
    const int fd = fcntl(worker->attention_fd(), F_DUPFD_CLOEXEC, 0);  // the lane's own
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "dup");
    lanes_.push_back({worker, boost::asio::posix::stream_descriptor(io, fd), {}});
  }
  for (size_t w = 0; w < lanes_.size(); ++w) wait(w);
}

void WorkerCalls::enqueue(size_t worker, std::unique_ptr<Pending> call) {
  if (stopped_) return;
  Lane& lane = lanes_[worker];
  lane.waiting.push_back(call.get());
  under_way_.emplace(call.get(), std::move(call));
  flush(lane);
}

// What the mailbox does not take now goes in when a call completes: it is full, so one will.
void WorkerCalls::flush(Lane& lane) {
  while (!lane.waiting.empty() && lane.worker->submit(lane.waiting.front())) {
    lane.waiting.pop_front();
  }
}

void WorkerCalls::wait(size_t worker) {
  lanes_[worker].attention.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                                      [this, worker](const boost::system::error_code& error) {
                                        if (!error && !stopped_) on_attention(worker);
                                      });
}

void WorkerCalls::on_attention(size_t worker) {
  Lane& lane = lanes_[worker];
  uint64_t count = 0;
  // Before looking, so that what comes later makes it readable again.
  (void)!read(lane.attention.native_handle(), &count, sizeof count);
  while (WorkerCall* call = lane.worker->completed()) {
    const auto done = under_way_.extract(call);
    flush(lane);
    done.mapped()->finish();
    if (stopped_) return;
  }
  const char* reason = nullptr;
  for (AppId app = lane.worker->evicted(&reason); app != Worker::kNoApp;
       app = lane.worker->evicted(&reason)) {
    on_evicted_(app, reason);
  }
  wait(worker);
}

void WorkerCalls::stop() {
  stopped_ = true;
  boost::system::error_code ignored;
  for (Lane& lane : lanes_) lane.attention.close(ignored);
}

}  // namespace postern
