#include "shm_daemon.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace postern::perf {
namespace {

constexpr uint32_t kSlots = 512;
constexpr uint32_t kClientSlots = 128;
constexpr uint32_t kGeneration = 1;

SegmentOptions segment_options() {
  SegmentOptions o;
  o.slots = kSlots;
  o.client_slots = kClientSlots;
  o.command_entries = o.event_entries = 1024;
  o.rx_pool_bytes = 4 << 20;
  o.tx_pool_bytes = 4 << 20;
  o.settings.receive_buffer = 1 << 20;
  return o;
}

}  // namespace

ShmDaemon::ShmDaemon() {
  char directory[] = "/tmp/postern-perf-XXXXXX";
  if (mkdtemp(directory) == nullptr) throw std::runtime_error("mkdtemp");
  directory_ = directory;
  path_ = directory_ + "/postern.sock";
  segment_ = AppSegment::create(segment_options());
  channel_ = std::make_unique<Channel>(*segment_, 0);
  listen_fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path_.c_str());
  if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listen_fd_, 1) != 0) {
    throw std::runtime_error("listen on " + path_);
  }
  std::thread([this] { serve(); }).detach();
}

// ---- the session ----

void ShmDaemon::serve() {
  const int session = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
  ::unlink(path_.c_str());
  ::rmdir(directory_.c_str());
  union {
    shm_attach_request attach;
    shm_bind_request bind;
  } request;
  while (::recv(session, &request, sizeof request, 0) > 0) {
    if (request.bind.type == SHM_REQ_ATTACH) {
      attach(session);
      continue;
    }
    shm_bind_reply reply{};
    reply.type = request.bind.type;
    reply.port = request.bind.port;
    reply.binding = 1;
    if (reply.type == SHM_REQ_LISTEN) listener_ = request.bind.handles[0];
    (void)::send(session, &reply, sizeof reply, MSG_NOSIGNAL);
  }
  ::close(session);
}

void ShmDaemon::attach(int session) {
  shm_attach_reply reply{};
  reply.type = SHM_REQ_ATTACH;
  reply.version_major = SHM_VERSION_MAJOR;
  reply.version_minor = SHM_VERSION_MINOR;
  reply.channel_count = 1;
  reply.daemon_segment_size = segment_->daemon_size();
  reply.client_segment_size = segment_->client_size();
  const std::array<int, 4> fds{segment_->daemon_fd(), segment_->client_fd(),
                               segment_->worker_doorbell(0), segment_->client_doorbell(0)};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fds)> control{};
  iovec part{&reply, sizeof reply};
  msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  m.msg_control = control.data();
  m.msg_controllen = control.size();
  cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(h), fds.data(), sizeof fds);
  (void)::sendmsg(session, &m, MSG_NOSIGNAL);
}

// ---- events ----

void ShmDaemon::push(const shm_event& event) {
  if (!channel_->push_event(event)) throw std::runtime_error("the event ring is full");
}

void ShmDaemon::connect_all() {
  first_slot_ = first_slot_ == 0 ? kClientSlots : first_slot_ + kConnections;
  connections_.assign(kConnections, {});
  for (uint32_t i = 0; i < kConnections; ++i) {
    shm_event e{};
    e.type = SHM_EVENT_ACCEPT;
    e.slot = listener_.slot;
    e.generation = listener_.generation;
    e.value = first_slot_ + i;
    e.value2 = kGeneration;
    push(e);
  }
}

// Each connection has a chunk of its own. It is free again whenever all was read.
void ShmDaemon::request(uint32_t connection, uint32_t length) {
  Connection& c = connections_[connection];
  std::byte* const at = channel_->rx_pool() + size_t{connection + 1} * SHM_CHUNK_UNIT;
  if (c.rx_head != c.rx_tail) throw std::runtime_error("a request was not read");
  *reinterpret_cast<shm_chunk*>(at) = {0, SHM_CHUNK_UNIT - sizeof(shm_chunk), c.rx_tail, 1};
  std::memset(at + sizeof(shm_chunk), 'r', length);
  c.rx_tail += length;
  shm_event e{};
  e.type = SHM_EVENT_UPDATE;
  e.flags = SHM_EV_NEW_CHAIN;
  e.slot = first_slot_ + connection;
  e.generation = kGeneration;
  e.rx_tail = c.rx_tail;
  e.tx_acked = c.tx_tail;
  e.value = connection + 1;
  push(e);
}

void ShmDaemon::take_commands() {
  shm_command command;
  while (channel_->next_command(&command)) {
    if (command.op != SHM_OP_SEND && command.op != SHM_OP_RECEIVED) continue;
    Connection& c = connections_.at(command.slot - first_slot_);
    c.rx_head = command.rx_head;
    if (command.op != SHM_OP_SEND) continue;
    c.tx_tail += command.length;
    sent_ += command.length;
  }
  if (channel_->violation() != nullptr) throw std::runtime_error(channel_->violation());
  channel_->publish_commands();
}

}  // namespace postern::perf
