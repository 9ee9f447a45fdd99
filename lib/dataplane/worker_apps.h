// The applications of one worker: takes their commands to the stack and the stack's events to them.
// What it costs a turn depends on the active ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/spsc_ring.h"
#include "shm/channel.h"
#include "stack/stack.h"

namespace postern {

class WorkerApps {
 public:
  // `max_apps`: as the stack's.
  WorkerApps(Stack& stack, uint16_t max_apps);

  // ---- inside a call of the control thread ----
  void attach(AppId app, Channel* channel, void* book) noexcept;
  // No command is taken and no event given any more.
  // Returns the channel; nullptr if there was none.
  Channel* detach(AppId app, Time now, bool reset) noexcept;
  // The channel may be destroyed afterwards.
  void forget(AppId app) noexcept;
  // Writes what getsockname and friends read of a socket.
  void publish_socket(SocketRef socket) noexcept;
  void publish_figures(SocketRef socket, Time now) noexcept;

  // ---- worker's turn ----
  // Takes commands, kCommandsPerTurn at most of each application that is polled; how many.
  uint32_t drain(Time now) noexcept;
  // Gives events and rings doorbells; how many events. blocked() says whether some wait for a
  // client to make room.
  uint32_t publish() noexcept;
  [[nodiscard]] bool blocked() const noexcept { return blocked_; }
  // Before and after sleep; see shmsock.h. arm() is followed by a look at pending().
  void arm() noexcept;
  void disarm() noexcept;
  [[nodiscard]] bool pending() const noexcept;

  // ---- control thread ----
  struct Eviction {
    AppId app;
    const char* reason;  // static storage
  };
  [[nodiscard]] bool next_eviction(Eviction* out) noexcept { return evictions_.pop(out); }
  [[nodiscard]] bool has_evictions() const noexcept { return !evictions_.empty(); }
  // ---- worker: true once after evictions were added ----
  [[nodiscard]] bool take_attention() noexcept;

 private:
  static constexpr uint32_t kCommandsPerTurn = 64;
  static constexpr uint32_t kEventsPerTurn = 1024;
  static constexpr size_t kColdPolls = 4;      // applications without recent commands, a turn
  static constexpr uint32_t kHotTurns = 4096;  // after its last command

  struct App {
    Channel* channel = nullptr;
    uint32_t place = 0;  // in hot_ or cold_
    bool hot = false;
    bool gone = false;         // detached or to be evicted: neither commands nor events
    bool evicted = false;      // reported
    bool ring = false;         // on ring_
    bool has_answer = false;   // answer waits for room in the event ring
    uint32_t last_active = 0;  // drain count
    shm_event answer{};
  };

  uint32_t drain_app(AppId id, App& app, Time now) noexcept;
  void execute(AppId id, App& app, const shm_command& command, Time now) noexcept;
  int perform(App& app, SocketRef socket, const shm_command& command, Time now) noexcept;
  [[nodiscard]] bool may_connect(const App& app, SocketRef socket, const shm_request& r) noexcept;
  int connect(App& app, SocketRef socket, Time now) noexcept;
  // A function of its own: its many values would crowd out those of the loop over commands.
  [[gnu::noinline]] int send_datagram(App& app, SocketRef socket, const shm_command& command,
                                      Time now) noexcept;
  void answer(App& app, const shm_command& command, shm_event_type type, int error) noexcept;
  void give_errors() noexcept;
  bool give_event(const AppEvent& event) noexcept;
  void show_state(const AppEvent& event) noexcept;
  bool after_event(AppId id, App& app, bool taken, bool urgent) noexcept;
  void ring_doorbells() noexcept;
  void evict(AppId id, App& app) noexcept;
  void place(AppId id, App& app, bool hot) noexcept;
  void unplace(App& app) noexcept;

  Stack& stack_;
  std::vector<App> apps_;       // by AppId
  std::vector<AppId> hot_;      // polled every turn
  std::vector<AppId> cold_;     // polled in turns
  std::vector<AppId> to_ring_;  // doorbells that may be due
  size_t cold_next_ = 0;
  size_t hot_next_ = 0;
  uint32_t drains_ = 0;
  bool blocked_ = false;
  bool attention_ = false;
  SpscRing<Eviction> evictions_;
};

}  // namespace postern
