#include "dataplane/sleeper.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace postern {

Sleeper::Sleeper(const std::vector<Port*>& ports, uint16_t queue, Bell& bell, Duration longest_nap)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), bell_(bell), longest_nap_(longest_nap) {
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  add(bell.fd(), Source::bell);
  for (const Port* port : ports) {
    if (queue >= port->queues()) continue;
    const int fd = port->wait_fd(queue);
    switch (port->wake(queue)) {
      case Wake::none:
        deaf_ = true;
        break;
      case Wake::level:
        add(fd, Source::level);
        break;
      case Wake::event:
        add(fd, Source::event);
        interrupts_.push_back({port, queue, false});
        break;
    }
  }
}

Sleeper::~Sleeper() { ::close(epoll_); }

void Sleeper::add(int fd, Source source) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = uint64_t{static_cast<uint32_t>(source)} << 32 | static_cast<uint32_t>(fd);
  epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void Sleeper::add_doorbell(int fd) noexcept { add(fd, Source::doorbell); }
void Sleeper::remove_doorbell(int fd) noexcept { epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr); }

void Sleeper::arm() noexcept {
  for (Interrupt& i : interrupts_) i.armed = i.port->arm_rx(i.queue);
  bell_.arm();
}

void Sleeper::disarm() noexcept {
  bell_.disarm();
  for (Interrupt& i : interrupts_) {
    if (i.armed) i.port->disarm_rx(i.queue);
  }
}

void Sleeper::sleep(Duration longest) noexcept {
  const bool deaf = deaf_ || std::any_of(interrupts_.begin(), interrupts_.end(),
                                         [](const Interrupt& i) { return !i.armed; });
  if (deaf) {
    longest = std::min(longest, nap_);
    nap_ = std::min(nap_ * 2, longest_nap_);
  }
  const int64_t ns = std::max<int64_t>(longest.count(), 0);
  const timespec timeout{static_cast<time_t>(ns / 1'000'000'000),
                         static_cast<long>(ns % 1'000'000'000)};
  std::array<epoll_event, 16> events;
  const int n =
      epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
  for (int i = 0; i < n; ++i) {
    const int fd = static_cast<int>(static_cast<uint32_t>(events[i].data.u64));
    const auto source = static_cast<Source>(events[i].data.u64 >> 32);
    char drain[256];
    int error = 0;
    socklen_t size = sizeof(error);
    if (source != Source::level) {
      [[maybe_unused]] const ssize_t got = ::read(fd, drain, sizeof(drain));
    } else if ((events[i].events & EPOLLERR) != 0) {
      // A packet socket whose interface went down reports it until it is asked.
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
  }
}

}  // namespace postern
