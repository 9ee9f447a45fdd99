#include "shm_app.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace postern::perf {
namespace {

SegmentOptions segment_options() {
  SegmentOptions o;
  o.slots = 256;
  o.client_slots = 64;
  o.rx_pool_bytes = 8 << 20;
  o.tx_pool_bytes = uint64_t{o.slots} * ShmApp::kRing;
  return o;
}

std::byte* map(int fd, uint64_t size, int protection) {
  void* p = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  return static_cast<std::byte*>(p);
}

}  // namespace

ShmApp::ShmApp(Worker& worker, AppMode mode)
    : worker_(worker),
      mode_(mode),
      segment_(AppSegment::create(segment_options())),
      channel_(std::make_unique<Channel>(*segment_, 0)),
      ours_(map(segment_->client_fd(), segment_->client_size(), PROT_READ | PROT_WRITE)),
      theirs_(map(segment_->daemon_fd(), segment_->daemon_size(), PROT_READ)),
      commands_(region<shm_command>(SHM_REGION_COMMAND_RING)),
      events_(region<const shm_event>(SHM_REGION_EVENT_RING)),
      control_(region<shm_channel_client>(SHM_REGION_CHANNEL_CLIENT)),
      tx_pool_(region<std::byte>(SHM_REGION_TX_POOL)),
      rx_pool_(region<const std::byte>(SHM_REGION_RX_POOL)),
      sockets_(segment_->options().slots) {
  worker_.attach(kId, channel_.get());
}

ShmApp::~ShmApp() {
  munmap(ours_, segment_->client_size());
  munmap(theirs_, segment_->daemon_size());
}

template <class T>
T* ShmApp::region(uint32_t kind) {
  for (std::byte* base : {ours_, theirs_}) {
    const auto* header = reinterpret_cast<const shm_header*>(base);
    const auto* regions = reinterpret_cast<const shm_region*>(base + header->regions_offset);
    for (uint32_t i = 0; i < header->region_count; ++i) {
      if (regions[i].kind == kind) return reinterpret_cast<T*>(base + regions[i].offset);
    }
  }
  throw std::logic_error("no such region");
}

void ShmApp::listen(const Endpoint& local) {
  sockets_[0].generation = 1;
  if (worker_.stack().listen({kId, 0, 1}, local, 256, false) != 0) {
    throw std::runtime_error("listen");
  }
}

void ShmApp::bind_udp(const Endpoint& local) {
  sockets_[0].generation = 1;
  sockets_[0].datagram = true;
  if (worker_.stack().bind_udp({kId, 0, 1}, local, false) != 0) {
    throw std::runtime_error("bind");
  }
}

// ---- commands ----

shm_command& ShmApp::next_command(uint8_t op, uint32_t slot) {
  shm_command& c = commands_[command_index_ & (segment_->options().command_entries - 1)];
  const uint32_t seq = c.seq;
  c = {};
  c.seq = seq;
  c.op = op;
  c.slot = slot;
  c.generation = sockets_[slot].generation;
  c.rx_head = sockets_[slot].rx_head;
  return c;
}

void ShmApp::submit() {
  shm_command& c = commands_[command_index_ & (segment_->options().command_entries - 1)];
  __atomic_store_n(&c.seq, ++command_index_, __ATOMIC_RELEASE);
}

void ShmApp::write(uint32_t slot, Socket& s, uint32_t length) {
  shm_command& c = next_command(SHM_OP_SEND, slot);
  c.offset = uint64_t{slot} * kRing + s.tx_tail % kRing;
  c.length = length;
  if (mode_ == AppMode::source) c.flags = SHM_CMD_WANT_TX;
  s.tx_tail += length;
  sent_ += length;
  submit();
}

// ---- events ----

void ShmApp::serve() {
  const uint32_t mask = segment_->options().event_entries - 1;
  for (;;) {
    const shm_event* entry = events_ + (event_index_ & mask);
    if (__atomic_load_n(&entry->seq, __ATOMIC_ACQUIRE) != event_index_ + 1) break;
    ++event_index_;
    on_event(*entry);
  }
  __atomic_store_n(&control_->event_head, event_index_, __ATOMIC_RELEASE);
}

void ShmApp::on_event(const shm_event& e) {
  if (e.type == SHM_EVENT_ACCEPT) {
    sockets_[e.value] = {};
    sockets_[e.value].generation = e.value2;
    ++accepted_;
    next_command(SHM_OP_ACCEPTED, e.slot).length = 1;
    submit();
    if (mode_ == AppMode::source) fill(e.value, sockets_[e.value]);
    return;
  }
  Socket& s = sockets_[e.slot];
  if (e.generation != s.generation) throw std::logic_error("event of another life");
  if (e.type == SHM_EVENT_UPDATE) return on_update(e, s);
  ++released_;
  s = {};
}

void ShmApp::on_update(const shm_event& e, Socket& s) {
  if ((e.flags & SHM_EV_ERROR) != 0) throw std::runtime_error("a connection failed");
  if ((e.flags & SHM_EV_NEW_CHAIN) != 0) {
    s.unit = e.value;
    s.offset = 0;
  }
  s.rx_tail = e.rx_tail;
  s.tx_acked = e.tx_acked;
  if (s.rx_tail != s.rx_head) s.datagram ? read_datagrams(e.slot, s) : read_stream(e.slot, s);
  if (mode_ == AppMode::source) fill(e.slot, s);
  if ((e.flags & SHM_EV_EOF) != 0) {
    next_command(SHM_OP_CLOSE, e.slot);
    submit();
  }
}

void ShmApp::read_stream(uint32_t slot, Socket& s) {
  const uint32_t n = s.rx_tail - s.rx_head;
  received_ += n;
  if (mode_ != AppMode::echo) {
    copy_out(s, nullptr, n);
    next_command(SHM_OP_RECEIVED, slot);
    return submit();
  }
  const uint32_t at = s.tx_tail % kRing;
  if (n > kRing - at) throw std::logic_error("requests are to divide the ring");
  copy_out(s, tx_pool_ + uint64_t{slot} * kRing + at, n);
  write(slot, s, n);
}

void ShmApp::read_datagrams(uint32_t slot, Socket& s) {
  while (s.rx_tail != s.rx_head) {
    shm_datagram header;
    copy_out(s, reinterpret_cast<std::byte*>(&header), sizeof header);
    const uint32_t payload = (header.length + 7) / 8 * 8;
    ++received_;
    if (mode_ == AppMode::echo) {
      send_back(slot, s, header, payload);
    } else {
      copy_out(s, nullptr, payload);
    }
  }
  if (mode_ == AppMode::echo) return;
  next_command(SHM_OP_RECEIVED, slot);
  submit();
}

// Records of one size: none straddles the ring's end.
void ShmApp::send_back(uint32_t slot, Socket& s, const shm_datagram& header, uint32_t payload) {
  const auto length = static_cast<uint32_t>(sizeof header) + payload;
  uint64_t at = uint64_t{slot} * kRing + s.tx_tail % (kRing / length * length);
  shm_datagram out{};
  out.length = header.length;
  out.port = header.port;
  out.is_v6 = header.is_v6;
  std::memcpy(out.address, header.address, sizeof out.address);
  std::memcpy(tx_pool_ + at, &out, sizeof out);
  copy_out(s, tx_pool_ + at + sizeof out, payload);
  shm_command& c = next_command(SHM_OP_SENDTO, slot);
  c.offset = at;
  c.length = length;
  s.tx_tail += length;
  ++sent_;
  submit();
}

void ShmApp::copy_out(Socket& s, std::byte* out, uint32_t length) {
  while (length != 0) {
    const auto* chunk =
        reinterpret_cast<const shm_chunk*>(rx_pool_ + size_t{s.unit} * SHM_CHUNK_UNIT);
    if (s.offset == chunk->capacity) {
      s.unit = chunk->next;
      s.offset = 0;
      continue;
    }
    const uint32_t n = std::min(length, chunk->capacity - s.offset);
    if (out != nullptr) {
      std::memcpy(out, reinterpret_cast<const std::byte*>(chunk + 1) + s.offset, n);
      out += n;
    }
    s.offset += n;
    s.rx_head += n;
    length -= n;
  }
}

// Keeps the transmit ring full, in pieces of 16 KiB as a program writes them.
void ShmApp::fill(uint32_t slot, Socket& s) {
  constexpr uint32_t kPiece = 16 << 10;
  while (kRing - (s.tx_tail - s.tx_acked) >= kPiece) write(slot, s, kPiece);
}

}  // namespace postern::perf
