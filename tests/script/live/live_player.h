// Plays a script against a whole daemon in real time: packets over its wire, calls through
// libpostern. Time is kept to within a tolerance; where this process itself is late, what follows
// is late as well.
#pragma once

#include <map>
#include <set>
#include <string>

#include "../numbers.h"
#include "../script.h"
#include "../verdict.h"
#include "wire.h"

namespace postern::script {

class LivePlayer {
 public:
  struct Options {
    uint16_t port = 0;  // of Postern's listener and of our end
    Duration tolerance = 30ms;
  };
  LivePlayer(const Script& script, Wire& wire, Options options);
  ~LivePlayer();
  LivePlayer(const LivePlayer&) = delete;
  LivePlayer& operator=(const LivePlayer&) = delete;

  // Why a script cannot be played live, or empty. `has`: settings of the daemon, "key=value".
  static std::string unfit(const Script& script, const std::set<std::string>& has,
                           Duration longest);
  // Empty: the daemon did what the script says. Else "path:line: what".
  std::string run();

 private:
  [[nodiscard]] bool is_outbound(size_t event) const;
  void play(const Event& e);
  void wait_for(const Event& e);
  void inbound(const Event& e);
  void outbound(const Event& e);
  void call(const Event& e);
  void assertion(const Event& e);
  long perform(const Event& e);
  long do_bind(int fd);
  long do_listen(int fd);
  long do_connect(const Event& e, int fd);
  long do_accept(const Event& e, int fd);
  long do_read(const Event& e, int fd);
  long do_write(const Event& e, int fd);
  long do_shutdown(int fd);
  long do_option(const Event& e, int fd);
  long do_abort(int fd);
  long look_for_error(const Event& e, int fd);
  void settle(int fd, short events, Duration patience);

  const Script& script_;
  Verdict verdict_;
  Numbers numbers_;
  Wire& wire_;
  Options options_;
  Time base_{};
  Time last_{};  // of the script's last line, as it has it
  bool connecting_ = false;
  bool shut_ = false;
  int listener_ = -1;
  std::map<int, int> fds_;  // as the script has it -> libpostern's
};

}  // namespace postern::script
