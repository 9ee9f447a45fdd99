// Work that the control thread has workers do, with its answer delivered in the io_context.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dataplane/worker.h"

namespace postern {

// Control thread only. The workers outlive it.
class WorkerCalls {
 public:
  using Evicted = std::function<void(AppId app, const char* reason)>;
  WorkerCalls(boost::asio::io_context& io, std::vector<Worker*> workers, Evicted on_evicted);
  WorkerCalls(const WorkerCalls&) = delete;
  WorkerCalls& operator=(const WorkerCalls&) = delete;

  [[nodiscard]] size_t workers() const { return lanes_.size(); }

  // Runs work(Worker&) -> R on the worker, which must neither block, allocate nor throw, and then
  // done(R) here. Calls to one worker run in order. After stop() nothing is called any more.
  template <class Work, class Done>
  void post(size_t worker, Work work, Done done) {
    using Call = TypedCall<Work, Done>;
    enqueue(worker, std::make_unique<Call>(std::move(work), std::move(done)));
  }

  // The same on all workers; done(std::vector<R>) once all have answered, by worker.
  template <class Work, class Done>
  void post_all(const Work& work, Done done) {
    using Result = std::invoke_result_t<Work, Worker&>;
    struct Join {
      std::vector<Result> results;
      size_t missing;
      Done done;
    };
    auto join =
        std::make_shared<Join>(Join{std::vector<Result>(workers()), workers(), std::move(done)});
    for (size_t w = 0; w < workers(); ++w) {
      post(w, work, [join, w](Result result) {
        join->results[w] = std::move(result);
        if (--join->missing == 0) join->done(std::move(join->results));
      });
    }
  }

  // Stops listening. Calls under way are forgotten; the workers must be stopped before the
  // destructor runs.
  void stop();

 private:
  struct Pending : WorkerCall {
    virtual ~Pending() = default;
    virtual void finish() = 0;
  };

  template <class Work, class Done>
  struct TypedCall final : Pending {
    TypedCall(Work w, Done d) : work(std::move(w)), done(std::move(d)) {
      run = [](Worker& worker, WorkerCall& call) noexcept {
        auto& self = static_cast<TypedCall&>(call);
        self.result = self.work(worker);
      };
    }
    void finish() override { done(std::move(result)); }
    Work work;
    Done done;
    std::invoke_result_t<Work, Worker&> result{};
  };

  struct Lane {
    Worker* worker;
    boost::asio::posix::stream_descriptor attention;
    std::deque<WorkerCall*> waiting;  // the mailbox was full
  };

  void enqueue(size_t worker, std::unique_ptr<Pending> call);
  static void flush(Lane& lane);
  void wait(size_t worker);
  void on_attention(size_t worker);

  std::vector<Lane> lanes_;
  Evicted on_evicted_;
  std::unordered_map<WorkerCall*, std::unique_ptr<Pending>> under_way_;
  bool stopped_ = false;
};

}  // namespace postern
