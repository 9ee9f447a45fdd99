#include "mini_daemon.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <future>
#include <stdexcept>

#include "shm/sleep_fence.h"

namespace postern::test {
namespace {

constexpr uint32_t kSpare = 32 << 10;

struct Extent {
  uint64_t offset;
  uint32_t length;
};

struct Chunk {
  uint32_t unit;
  uint32_t start;
  uint32_t capacity;
};

void local_address(uint8_t out[16], uint8_t last) {
  std::memset(out, 0, 16);
  out[10] = out[11] = 0xff;
  out[12] = 10;
  out[15] = last;
}

bool exists(const uint8_t address[16]) {
  uint8_t one[16], two[16];
  local_address(one, 1);
  local_address(two, 2);
  return std::memcmp(address, one, 16) == 0 || std::memcmp(address, two, 16) == 0;
}

bool is_any(const uint8_t address[16]) {
  return std::all_of(address, address + 10, [](uint8_t b) { return b == 0; }) &&
         std::all_of(address + 12, address + 16, [](uint8_t b) { return b == 0; });
}

}  // namespace

struct MiniDaemon::Link {
  Link(AppSegment& segment, uint32_t index, const SegmentOptions& o)
      : channel(segment, index), index_(index) {
    for (uint32_t u = channel.rx_units() - 1; u > 0; --u) free_units.push_back(u);
    for (uint32_t s = o.client_slots; s < o.slots; ++s) free_slots.push_back(s);
    generations.resize(o.slots);
  }
  Channel channel;
  uint32_t index_;
  std::vector<uint32_t> free_units;
  std::deque<uint32_t> free_slots;
  std::vector<uint32_t> generations;
  std::deque<shm_event> backlog;  // events that found the ring full
  bool ring = false;
};

struct MiniDaemon::Socket {
  Link* link = nullptr;
  uint32_t slot = 0;
  uint32_t generation = 0;
  uint8_t protocol = 0;
  bool connected = false;
  bool write_shut = false;  // no more will be sent after the extents
  bool fin_delivered = false;
  bool closed = false;  // by the application
  bool failed = false;
  bool want_tx = false;
  bool changed = false;
  bool urgent = false;
  bool released = false;
  uint8_t flags = 0;  // of the next event
  uint16_t error = 0;
  uint8_t address[16] = {};
  uint8_t remote[16] = {};
  uint16_t port = 0;
  uint16_t remote_port = 0;
  std::weak_ptr<Socket> peer;
  std::deque<Extent> tx;
  uint32_t tx_tail = 0;
  uint32_t tx_acked = 0;
  std::deque<Chunk> rx;
  uint32_t rx_head = 0;
  uint32_t rx_tail = 0;
  uint32_t mark = 0;  // with SHM_EV_URGENT
  uint32_t new_chain = 0;
  uint32_t rcvbuf = 0;
};

MiniDaemon::MiniDaemon(MiniOptions options) : options_(std::move(options)) {
  char directory[] = "/tmp/postern-test-XXXXXX";
  if (mkdtemp(directory) == nullptr) throw std::runtime_error("mkdtemp");
  directory_ = directory;
  path_ = directory_ + "/postern.sock";
  listen_fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path_.c_str());
  if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listen_fd_, 8) != 0) {
    throw std::runtime_error("listen on " + path_);
  }
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  thread_ = std::thread([this] { run(); });
}

MiniDaemon::~MiniDaemon() {
  on_loop([this] { stop_ = true; });
  thread_.join();
  detach();
  ::close(listen_fd_);
  ::close(wake_fd_);
  ::unlink(path_.c_str());
  ::rmdir(directory_.c_str());
}

void MiniDaemon::on_loop(std::function<void()> f) {
  std::promise<void> done;
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back([&] {
      f();
      done.set_value();
    });
  }
  const uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
  done.get_future().wait();
}

void MiniDaemon::evict(const std::string& reason) {
  on_loop([this, reason] {
    if (segment_ == nullptr) return;
    segment_->set_state(SHM_STATE_EVICTED, reason);
    ::close(session_fd_);
    session_fd_ = -1;
    dead_ = true;
  });
}

void MiniDaemon::die() {
  on_loop([this] {
    ::close(session_fd_);
    session_fd_ = -1;
    dead_ = true;
  });
}

void MiniDaemon::reset_connections() {
  on_loop([this] {
    for (const SocketPtr& s : sockets_) {
      if (s->connected && s->protocol == IPPROTO_TCP) fail(*s, ECONNRESET);
    }
  });
}

MiniDaemon::Stats MiniDaemon::stats() {
  Stats out;
  on_loop([this, &out] {
    out = counted_;
    for (const auto& link : links_) {
      out.rx_units_used +=
          link->channel.rx_units() - 1 - static_cast<uint32_t>(link->free_units.size());
      if (link->channel.violation() != nullptr) out.violation = link->channel.violation();
    }
    out.sockets = static_cast<uint32_t>(sockets_.size());
    out.bindings = static_cast<uint32_t>(bindings_.size());
  });
  return out;
}

// ---- the loop ----

void MiniDaemon::run() {
  while (!stop_) {
    bool busy = false;
    for (int i = 0; i < 50; ++i) busy = turn() || busy;
    if (!busy) sleep();
  }
}

bool MiniDaemon::turn() {
  std::vector<std::function<void()>> calls;
  {
    const std::lock_guard lock(mutex_);
    calls.swap(calls_);
  }
  for (const auto& call : calls) call();
  bool busy = !calls.empty();
  if (dead_) return busy;
  for (const auto& link : links_) busy = drain(*link) || busy;
  const std::vector<SocketPtr> now(sockets_);
  for (const SocketPtr& s : now) busy = move(s) || busy;
  publish();
  return busy;
}

void MiniDaemon::sleep() {
  std::vector<pollfd> fds{{wake_fd_, POLLIN, 0}, {listen_fd_, POLLIN, 0}};
  if (session_fd_ >= 0) fds.push_back({session_fd_, POLLIN, 0});
  const size_t bells = fds.size();
  bool pending = false;
  if (!dead_) {
    for (const auto& link : links_) {
      fds.push_back({link->channel.worker_doorbell_fd(), POLLIN, 0});
      link->channel.arm();
    }
    sleep_fence();
    for (const auto& link : links_) pending = pending || link->channel.commands_pending();
  }
  ::poll(fds.data(), fds.size(), pending ? 0 : 100);
  if (!dead_) {
    for (const auto& link : links_) link->channel.disarm();
  }
  char bytes[64];
  for (size_t i = 0; i < fds.size(); ++i) {
    const bool drained = i == 0 || i >= bells;
    if (drained && fds[i].revents != 0) (void)!::read(fds[i].fd, bytes, sizeof bytes);
  }
  if (bells == 3 && fds[2].revents != 0 && !read_session()) detach();
  if (fds[1].revents != 0) accept_session();
}

// ---- sessions ----

void MiniDaemon::accept_session() {
  const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (session_fd_ >= 0) {
    ::close(fd);
    return;
  }
  detach();
  session_fd_ = fd;
}

bool MiniDaemon::read_session() {
  alignas(8) char buffer[sizeof(shm_bind_request)];
  const ssize_t n = ::recv(session_fd_, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n <= 0) return false;
  uint32_t type = 0;
  std::memcpy(&type, buffer, sizeof type);
  if (type == SHM_REQ_ATTACH) {
    shm_attach_request request;
    std::memcpy(&request, buffer, sizeof request);
    attach(request);
  } else {
    shm_bind_request request;
    std::memcpy(&request, buffer, sizeof request);
    answer(request);
  }
  return true;
}

void MiniDaemon::attach(const shm_attach_request&) {
  shm_attach_reply reply{};
  reply.type = SHM_REQ_ATTACH;
  reply.version_major = SHM_VERSION_MAJOR;
  reply.version_minor = SHM_VERSION_MINOR;
  reply.error = static_cast<uint32_t>(options_.attach_error);
  std::strncpy(reply.message, options_.attach_message.c_str(), sizeof reply.message - 1);
  std::vector<int> fds;
  if (reply.error == 0) {
    segment_ = AppSegment::create(options_.segment);
    fds = {segment_->daemon_fd(), segment_->client_fd()};
    for (uint32_t c = 0; c < options_.segment.channels; ++c) {
      links_.push_back(std::make_unique<Link>(*segment_, c, options_.segment));
      fds.push_back(segment_->worker_doorbell(c));
      fds.push_back(segment_->client_doorbell(c));
    }
    reply.channel_count = options_.segment.channels;
    reply.daemon_segment_size = segment_->daemon_size();
    reply.client_segment_size = segment_->client_size();
  }
  iovec part{&reply, sizeof reply};
  msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  if (!fds.empty()) {
    m.msg_control = control.data();
    m.msg_controllen = control.size();
    cmsghdr* h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(h), fds.data(), fds.size() * sizeof(int));
  }
  (void)::sendmsg(session_fd_, &m, MSG_NOSIGNAL);
}

void MiniDaemon::detach() {
  if (session_fd_ >= 0) ::close(session_fd_);
  session_fd_ = -1;
  sockets_.clear();
  bindings_.clear();
  links_.clear();
  segment_.reset();
  dead_ = false;
  held_ = false;
  counted_ = {};
}

const MiniDaemon::Binding* MiniDaemon::bound(uint8_t protocol, uint16_t port) const {
  for (const auto& [id, b] : bindings_) {
    if (b.protocol == protocol && b.port == port) return &b;
  }
  return nullptr;
}

uint32_t MiniDaemon::bind(const shm_bind_request& q, shm_bind_reply* reply) {
  const auto protocol = static_cast<uint8_t>(q.protocol);
  if (!is_any(q.address) && !exists(q.address)) return EADDRNOTAVAIL;
  if (q.port != 0 && q.port < 10) return EACCES;
  uint16_t port = q.port;
  while (port == 0 || (q.port == 0 && bound(protocol, port) != nullptr)) port = next_port_++;
  if (bound(protocol, port) != nullptr && (q.flags & SHM_BIND_REUSEPORT) == 0) return EADDRINUSE;
  Binding b;
  b.protocol = protocol;
  b.port = port;
  reply->binding = next_binding_++;
  if (protocol == IPPROTO_UDP) {
    for (const auto& link : links_) {
      b.handles.push_back(q.handles[link->index_]);
      const SocketPtr s = open(*link, b.handles.back().slot, b.handles.back().generation, protocol);
      std::memcpy(s->address, q.address, 16);
      s->port = port;
      describe(*s);
    }
  }
  reply->port = port;
  bindings_[reply->binding] = b;
  return 0;
}

void MiniDaemon::answer(const shm_bind_request& q) {
  shm_bind_reply reply{};
  reply.type = q.type;
  std::memcpy(reply.address, q.address, 16);
  if (q.type == SHM_REQ_BIND) {
    reply.error = bind(q, &reply);
    if (reply.error == EACCES) std::strcpy(reply.message, "ports below 10 are not for you");
  } else if (bindings_.count(q.binding) == 0) {
    reply.error = EINVAL;
  } else if (q.type == SHM_REQ_LISTEN) {
    Binding& b = bindings_[q.binding];
    b.listening = true;
    b.backlog = q.backlog;
    for (const auto& link : links_) {
      b.handles.push_back(q.handles[link->index_]);
      open(*link, b.handles.back().slot, b.handles.back().generation, IPPROTO_TCP);
    }
  } else {
    bindings_.erase(q.binding);
  }
  (void)::send(session_fd_, &reply, sizeof reply, MSG_NOSIGNAL);
}

// ---- commands ----

bool MiniDaemon::drain(Link& link) {
  shm_command command;
  bool any = false;
  while (link.channel.next_command(&command)) {
    any = true;
    execute(link, command);
  }
  if (any) link.channel.publish_commands();
  return any;
}

MiniDaemon::SocketPtr MiniDaemon::find(Link& link, uint32_t slot, uint32_t generation) {
  for (const SocketPtr& s : sockets_) {
    if (s->link == &link && s->slot == slot && s->generation == generation) return s;
  }
  return nullptr;
}

MiniDaemon::SocketPtr MiniDaemon::open(Link& link, uint32_t slot, uint32_t generation,
                                       uint8_t protocol) {
  auto s = std::make_shared<Socket>();
  s->link = &link;
  s->slot = slot;
  s->generation = generation;
  s->protocol = protocol;
  s->rcvbuf = options_.receive_buffer;
  sockets_.push_back(s);
  return s;
}

void MiniDaemon::describe(const Socket& s) {
  shm_socket* out = s.link->channel.socket(s.slot);
  std::memcpy(out->local_address, s.address, 16);
  std::memcpy(out->remote_address, s.remote, 16);
  out->local_port = s.port;
  out->remote_port = s.remote_port;
  out->mss = 1460;
  out->protocol = s.protocol;
  __atomic_store_n(&out->generation, s.generation, __ATOMIC_RELEASE);
}

void MiniDaemon::execute(Link& link, const shm_command& c) {
  if (c.op == SHM_OP_OPEN) {
    if (find(link, c.slot, c.generation) == nullptr) open(link, c.slot, c.generation, IPPROTO_TCP);
    return;
  }
  const SocketPtr s = find(link, c.slot, c.generation);
  if (s == nullptr || s->closed) return;
  switch (c.op) {
    case SHM_OP_CONNECT:
      connect(link, s, link.channel.request(c.slot));
      break;
    case SHM_OP_SEND:
      ++counted_.send_commands;
      consume(*s, c.rx_head);
      if (s->failed) break;
      if (!s->tx.empty() && s->tx.back().offset + s->tx.back().length == c.offset) {
        s->tx.back().length += c.length;
      } else {
        s->tx.push_back({c.offset, c.length});
      }
      counted_.most_extents = std::max<uint32_t>(counted_.most_extents, s->tx.size());
      if (s->tx.size() > SHM_MAX_EXTENTS) link.channel.set_violation("too many extents");
      s->tx_tail += c.length;
      if ((c.flags & SHM_CMD_URGENT) != 0) mark_urgent(*s);
      s->want_tx = (c.flags & SHM_CMD_WANT_TX) != 0;
      break;
    case SHM_OP_SENDTO:
      consume(*s, c.rx_head);
      send_datagram(link, s, c);
      break;
    case SHM_OP_RECEIVED:
      ++counted_.received_commands;
      consume(*s, c.rx_head);
      break;
    case SHM_OP_SHUTDOWN:
      if (c.arg != 0) s->write_shut = true;
      break;
    case SHM_OP_SETOPT:
      if (c.arg == SHM_OPT_RCVBUF) s->rcvbuf = c.length;
      break;
    case SHM_OP_INFO: {
      shm_socket* out = link.channel.socket(c.slot);
      out->rto = 200;
      out->srtt = 1234;
      out->rttvar = 56;
      out->cwnd = 14600;
      out->retransmits = 3;
      __atomic_fetch_add(&out->info_seq, 1, __ATOMIC_RELEASE);
      break;
    }
    case SHM_OP_CLOSE: {
      consume(*s, c.rx_head);
      const SocketPtr peer = s->peer.lock();
      const bool reset = c.arg == 1 || s->rx_head != s->rx_tail;
      s->closed = s->write_shut = true;
      drop_chain(*s);
      if (reset || s->protocol == IPPROTO_UDP) s->tx.clear();
      if (reset && peer != nullptr) fail(*peer, ECONNRESET);
      if (reset) s->failed = true;
      break;
    }
    default:
      break;
  }
}

void MiniDaemon::connect(Link& link, const SocketPtr& s, const shm_request& q) {
  std::memcpy(s->remote, q.remote_address, 16);
  s->remote_port = q.remote_port;
  if (s->protocol == IPPROTO_UDP) {
    s->connected = q.remote_port != 0;
    return;
  }
  local_address(s->address, 1);
  s->port = q.local_port != 0 ? q.local_port : next_port_++;
  if (q.remote_port == 2) return;  // a port that never answers
  const Binding* b = bound(IPPROTO_TCP, q.remote_port);
  if (!exists(q.remote_address)) return fail(*s, EHOSTUNREACH);
  if (b == nullptr || !b->listening) return fail(*s, ECONNREFUSED);
  Link& there = *links_[turn_of_links_++ % links_.size()];
  if (there.free_slots.empty()) return fail(*s, ECONNREFUSED);
  const uint32_t slot = there.free_slots.front();
  there.free_slots.pop_front();
  const SocketPtr child = open(there, slot, ++there.generations[slot], IPPROTO_TCP);
  std::memcpy(child->address, s->remote, 16);
  std::memcpy(child->remote, s->address, 16);
  child->port = s->remote_port;
  child->remote_port = s->port;
  child->connected = s->connected = true;
  child->peer = s;
  s->peer = child;
  describe(*child);
  describe(*s);
  shm_event accept{};
  accept.type = SHM_EVENT_ACCEPT;
  accept.slot = b->handles[there.index_].slot;
  accept.generation = b->handles[there.index_].generation;
  accept.value = slot;
  accept.value2 = child->generation;
  push(there, accept, true);
  s->flags |= SHM_EV_CONNECTED;
  s->changed = s->urgent = true;
  (void)link;
}

void MiniDaemon::fail(Socket& s, int error) {
  if (s.failed) return;
  s.failed = true;
  s.tx.clear();
  s.flags |= SHM_EV_ERROR;
  s.error = static_cast<uint16_t>(error);
  s.changed = s.urgent = true;
}

// ---- data ----

void MiniDaemon::deliver(Socket& to, const void* bytes, uint32_t length) {
  const auto* from = static_cast<const std::byte*>(bytes);
  std::byte* pool = to.link->channel.rx_pool();
  while (length != 0) {
    if (to.rx.empty() || to.rx_tail - to.rx.back().start == to.rx.back().capacity) {
      const uint32_t unit = to.link->free_units.back();
      to.link->free_units.pop_back();
      auto* chunk = reinterpret_cast<shm_chunk*>(pool + size_t{unit} * SHM_CHUNK_UNIT);
      *chunk = {0, SHM_CHUNK_UNIT - sizeof(shm_chunk), to.rx_tail, 1};
      if (to.rx.empty()) {
        to.new_chain = unit;
      } else {
        auto* last =
            reinterpret_cast<shm_chunk*>(pool + size_t{to.rx.back().unit} * SHM_CHUNK_UNIT);
        __atomic_store_n(&last->next, unit, __ATOMIC_RELEASE);
      }
      to.rx.push_back({unit, to.rx_tail, chunk->capacity});
    }
    const Chunk& c = to.rx.back();
    const uint32_t at = to.rx_tail - c.start;
    const uint32_t n = std::min(length, c.capacity - at);
    std::memcpy(pool + size_t{c.unit} * SHM_CHUNK_UNIT + sizeof(shm_chunk) + at, from, n);
    to.rx_tail += n;
    from += n;
    length -= n;
  }
  to.changed = to.urgent = true;
}

// Freed chunks are overwritten, so that a client that looks at one is found out.
void MiniDaemon::drop_chain(Socket& s) {
  while (!s.rx.empty()) {
    std::memset(s.link->channel.rx_pool() + size_t{s.rx.front().unit} * SHM_CHUNK_UNIT, 0xee,
                SHM_CHUNK_UNIT);
    s.link->free_units.push_back(s.rx.front().unit);
    s.rx.pop_front();
  }
}

void MiniDaemon::consume(Socket& s, uint32_t rx_head) {
  if (rx_head - s.rx_head > s.rx_tail - s.rx_head) {
    s.link->channel.set_violation("rx_head beyond rx_tail");
    return;
  }
  s.rx_head = rx_head;
  if (rx_head == s.rx_tail) return drop_chain(s);
  while (!s.rx.empty() && rx_head - s.rx.front().start > s.rx.front().capacity) {
    std::memset(s.link->channel.rx_pool() + size_t{s.rx.front().unit} * SHM_CHUNK_UNIT, 0xee,
                SHM_CHUNK_UNIT);
    s.link->free_units.push_back(s.rx.front().unit);
    s.rx.pop_front();
  }
}

bool MiniDaemon::move(const SocketPtr& s) {
  if (held_) return false;
  bool moved = s->protocol == IPPROTO_TCP && !s->failed && move_stream(s);
  if (s->closed && s->tx.empty() && !s->released) {
    finish_close(s);
    moved = true;
  }
  return moved;
}

bool MiniDaemon::move_stream(const SocketPtr& s) {
  const SocketPtr peer = s->peer.lock();
  if (!s->tx.empty() && (peer == nullptr || peer->closed)) {
    fail(*s, ECONNRESET);
    return true;
  }
  bool moved = false;
  while (!s->tx.empty()) {
    const uint32_t unread = peer->rx_tail - peer->rx_head;
    const size_t memory = peer->link->free_units.size() * 1024;
    if (unread >= peer->rcvbuf || memory < kSpare) break;
    Extent& e = s->tx.front();
    const uint32_t n = std::min({e.length, peer->rcvbuf - unread, kSpare});
    deliver(*peer, s->link->channel.tx_pool() + e.offset, n);
    e.offset += n;
    e.length -= n;
    s->tx_acked += n;
    if (e.length == 0) s->tx.pop_front();
    s->changed = moved = true;
    s->urgent = s->urgent || s->want_tx;
  }
  if (s->tx.empty() && s->write_shut && !s->fin_delivered) {
    s->fin_delivered = moved = true;
    if (peer != nullptr && !peer->closed) {
      peer->flags |= SHM_EV_EOF;
      peer->changed = peer->urgent = true;
    }
  }
  return moved;
}

// What is sent arrives at the same stream position.
void MiniDaemon::mark_urgent(Socket& s) {
  const SocketPtr peer = s.peer.lock();
  if (peer == nullptr) return;
  peer->mark = s.tx_tail;
  peer->flags |= SHM_EV_URGENT;
  peer->changed = peer->urgent = true;
}

void MiniDaemon::send_datagram(Link& link, const SocketPtr& s, const shm_command& c) {
  shm_datagram d;
  if (!link.channel.datagram(c, &d)) return;
  s->tx_tail += c.length;
  s->tx_acked += c.length;
  s->changed = true;
  s->urgent = s->urgent || (c.flags & SHM_CMD_WANT_TX) != 0;
  const uint16_t port = d.port != 0 ? d.port : s->remote_port;
  const Binding* b = bound(IPPROTO_UDP, port);
  if (b == nullptr) {
    s->flags |= SHM_EV_ERROR;
    s->error = ECONNREFUSED;
    s->urgent = true;
    return;
  }
  Link& there = *links_[turn_of_links_++ % links_.size()];
  const shm_handle& h = b->handles[there.index_];
  const SocketPtr to = find(there, h.slot, h.generation);
  const uint32_t room = (d.length / SHM_CHUNK_UNIT + 3);
  if (to == nullptr || to->closed || there.free_units.size() < room) return;
  shm_datagram out{};
  out.length = d.length;
  out.port = s->port;
  local_address(out.address, 1);
  local_address(out.local, 1);
  out.ttl = d.ttl != 0 ? d.ttl : 64;
  out.tos = d.tos;
  out.interface = d.interface != 0 ? d.interface - 1 : 0;
  std::vector<std::byte> record((sizeof out + d.length + 7) & ~size_t{7});
  std::memcpy(record.data(), &out, sizeof out);
  std::memcpy(record.data() + sizeof out, link.channel.tx_pool() + c.offset + sizeof out, d.length);
  deliver(*to, record.data(), static_cast<uint32_t>(record.size()));
}

void MiniDaemon::finish_close(const SocketPtr& s) {
  s->released = true;
  shm_event e{};
  e.type = SHM_EVENT_RELEASED;
  e.slot = s->slot;
  e.generation = s->generation;
  push(*s->link, e, true);
  s->link->channel.socket(s->slot)->protocol = 0;
  if (s->slot >= options_.segment.client_slots) s->link->free_slots.push_back(s->slot);
  sockets_.erase(std::find(sockets_.begin(), sockets_.end(), s));
}

// ---- events ----

void MiniDaemon::publish() {
  for (const SocketPtr& s : sockets_) {
    if (!s->changed || s->closed) continue;
    shm_event e{};
    e.type = SHM_EVENT_UPDATE;
    e.flags = s->flags;
    e.error = s->error;
    e.slot = s->slot;
    e.generation = s->generation;
    e.rx_tail = s->rx_tail;
    e.tx_acked = s->tx_acked;
    e.value2 = s->mark;
    if (s->new_chain != 0) {
      e.flags |= SHM_EV_NEW_CHAIN;
      e.value = s->new_chain;
    }
    push(*s->link, e, s->urgent);
    s->changed = s->urgent = false;
    s->flags = 0;
    s->error = 0;
    s->new_chain = 0;
  }
  for (const auto& link : links_) {
    while (!link->backlog.empty() && link->channel.push_event(link->backlog.front())) {
      link->backlog.pop_front();
    }
    if (!link->backlog.empty()) link->ring = true;
    const bool due = link->ring && link->channel.doorbell_due();
    link->ring = false;
    if (!due) continue;
    const uint64_t one = 1;
    (void)!::write(link->channel.client_doorbell_fd(), &one, sizeof one);
  }
}

void MiniDaemon::push(Link& link, const shm_event& event, bool urgent) {
  link.ring = link.ring || urgent;
  if (link.backlog.empty() && link.channel.push_event(event)) return;
  link.backlog.push_back(event);
}

}  // namespace postern::test
