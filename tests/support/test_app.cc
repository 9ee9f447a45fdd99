#include "support/test_app.h"

#include <algorithm>
#include <cstring>

#include "base/chunk.h"
#include "udp/datagram.h"

namespace postern::test {

TestApp::TestApp(Stack& stack, const Options& options)
    : stack_(stack),
      options_(options),
      rx_(size_t{options.rx_units} * kChunkUnit / 8),
      tx_(size_t{options.slots} * options.tx_ring / 8) {
  memory_.rx_pool = reinterpret_cast<std::byte*>(rx_.data());
  memory_.rx_units = options.rx_units;
  memory_.tx_pool = reinterpret_cast<const std::byte*>(tx_.data());
  memory_.tx_size = tx_.size() * 8;
  memory_.slots = options.slots;
  memory_.client_slots = options.client_slots;
  book_.resize(Stack::book_size(memory_) / 8 + 1);
  memory_.book = book_.data();
  stack_.attach(options.id, memory_);
}

void TestApp::complain(const std::string& what) {
  if (complaint_.empty()) complaint_ = what;
}

TestApp::Socket& TestApp::operator[](SocketRef ref) { return sockets_.at(ref.slot); }

bool TestApp::has(SocketRef ref) const {
  const auto it = sockets_.find(ref.slot);
  return it != sockets_.end() && it->second.ref.generation == ref.generation;
}

bool TestApp::on_event(const AppEvent& event) {
  if (refuse_events) return false;
  ++events_;
  const auto it = sockets_.find(event.socket.slot);
  if (it == sockets_.end() || it->second.ref.generation != event.socket.generation) {
    complain("event for a socket that is not open");
    return true;
  }
  Socket& s = it->second;
  if (event.type == AppEvent::Type::released) {
    if (!s.closed) complain("released before it was closed");
    sockets_.erase(it);
    return true;
  }
  if (event.type == AppEvent::Type::accept) {
    const SocketRef child{options_.id, event.new_slot, event.new_generation};
    if (sockets_.count(child.slot) != 0) complain("accepted into a slot that is in use");
    if (generations_[child.slot] == child.generation) complain("generation used again");
    generations_[child.slot] = child.generation;
    sockets_[child.slot] = Socket{};
    sockets_[child.slot].ref = child;
    sockets_[child.slot].connected = true;
    s.accepted.push_back(child);
    return true;
  }
  if (s.closed) complain("update after close");
  if (event.new_chain) {
    const auto* chunk =
        reinterpret_cast<const ChunkHeader*>(memory_.rx_pool + size_t{event.chain} * kChunkUnit);
    if (chunk->start != s.rx_head) complain("chain does not start at rx_head");
    s.unit = event.chain;
    s.offset = 0;
  }
  if (event.rx_tail - s.rx_tail > (1U << 30)) complain("rx_tail moved back");
  if (event.tx_acked - s.tx_acked > s.outstanding()) complain("tx_acked beyond what was sent");
  s.rx_tail = event.rx_tail;
  s.tx_acked = event.tx_acked;
  if (event.eof) s.eof = true;
  if (event.connected) s.connected = true;
  if (event.error != 0) s.error = event.error;
  return true;
}

SocketRef TestApp::next_client_slot() {
  for (uint32_t i = 0; i < options_.client_slots; ++i) {
    const uint32_t slot = (next_slot_ + i) % options_.client_slots;
    if (sockets_.count(slot) != 0) continue;
    next_slot_ = slot + 1;
    const SocketRef ref{options_.id, slot, ++generations_[slot]};
    sockets_[slot] = Socket{};
    sockets_[slot].ref = ref;
    return ref;
  }
  return {options_.id, kNoSlot, 0};
}

SocketRef TestApp::open(Time now) {
  const SocketRef ref = next_client_slot();
  const int error = stack_.open_tcp(ref, now);
  if (error != 0) {
    sockets_.erase(ref.slot);
    return {options_.id, kNoSlot, static_cast<uint32_t>(error)};
  }
  return ref;
}

int TestApp::connect(SocketRef ref, const Endpoint& remote, Time now, const Endpoint& local) {
  return stack_.connect(ref, local, remote, now);
}

SocketRef TestApp::listen(const Endpoint& local, uint32_t backlog) {
  const SocketRef ref = next_client_slot();
  if (stack_.listen(ref, local, backlog, false) != 0) complain("listen");
  return ref;
}

SocketRef TestApp::bind(const Endpoint& local) {
  const SocketRef ref = next_client_slot();
  if (stack_.bind_udp(ref, local, false) != 0) complain("bind");
  sockets_[ref.slot].datagram = true;
  return ref;
}

std::optional<SocketRef> TestApp::accept(SocketRef listener, Time now) {
  auto& queue = (*this)[listener].accepted;
  if (queue.empty()) return std::nullopt;
  const SocketRef ref = queue.front();
  queue.pop_front();
  if (stack_.accepted(listener, 1, now) != 0) complain("accepted");
  return ref;
}

int TestApp::close(SocketRef ref, Time now, bool abort) {
  Socket& s = (*this)[ref];
  s.closed = true;
  return stack_.close(ref, abort, s.rx_head, now);
}

size_t TestApp::write(SocketRef ref, const std::byte* bytes, size_t n, Time now, bool more) {
  Socket& s = (*this)[ref];
  size_t done = 0;
  while (done < n) {
    const uint32_t room = options_.tx_ring - s.outstanding();
    const uint32_t at = s.tx_tail % options_.tx_ring;
    const auto k = static_cast<uint32_t>(std::min<size_t>({n - done, room, options_.tx_ring - at}));
    if (k == 0) break;
    const uint64_t offset = ring_of(ref.slot) + at;
    std::memcpy(reinterpret_cast<std::byte*>(tx_.data()) + offset, bytes + done, k);
    s.tx_tail += k;
    done += k;
    if (stack_.send(ref, offset, k, more || (done < n && k != room), done < n || k == room, now) !=
        0)
      break;
  }
  return done;
}

int TestApp::send_to(SocketRef ref, const Endpoint& to, const std::vector<std::byte>& payload,
                     Time now) {
  Socket& s = (*this)[ref];
  const uint32_t size = datagram_record_size(static_cast<uint32_t>(payload.size()));
  uint32_t at = s.tx_tail % options_.tx_ring;
  if (at + size > options_.tx_ring) at = 0;  // the tests leave room
  const uint64_t offset = ring_of(ref.slot) + at;
  std::byte* const memory = reinterpret_cast<std::byte*>(tx_.data());
  if (!payload.empty()) std::memcpy(memory + offset + 48, payload.data(), payload.size());
  s.tx_tail += size;
  return stack_.send_datagram(ref, size, offset + 48, static_cast<uint32_t>(payload.size()), {}, to,
                              0, 0, now);
}

void TestApp::copy_out(Socket& s, std::byte* out, size_t n) {
  while (n != 0) {
    const std::byte* base = memory_.rx_pool + size_t{s.unit} * kChunkUnit;
    const auto* chunk = reinterpret_cast<const ChunkHeader*>(base);
    if (s.unit == 0 || s.unit >= memory_.rx_units) return complain("chain is broken");
    if (s.offset == chunk->capacity) {
      s.unit = chunk->next;
      s.offset = 0;
      continue;
    }
    const size_t k = std::min<size_t>(n, chunk->capacity - s.offset);
    if (out != nullptr) {
      std::memcpy(out, base + sizeof(ChunkHeader) + s.offset, k);
      out += k;
    }
    s.offset += static_cast<uint32_t>(k);
    s.rx_head += static_cast<uint32_t>(k);
    n -= k;
  }
}

size_t TestApp::read(SocketRef ref, std::byte* out, size_t n, Time now) {
  Socket& s = (*this)[ref];
  const size_t k = std::min<size_t>(n, s.unread());
  if (k == 0) return 0;
  copy_out(s, out, k);
  if (stack_.consumed(ref, s.rx_head, now) != 0) complain("consumed");
  return k;
}

std::optional<Datagram> TestApp::receive_from(SocketRef ref, Time now) {
  Socket& s = (*this)[ref];
  if (s.unread() == 0) return std::nullopt;
  DatagramRecord header;
  copy_out(s, reinterpret_cast<std::byte*>(&header), sizeof header);
  Datagram d{{header.address, header.port}, header.local, std::vector<std::byte>(header.length)};
  copy_out(s, d.payload.data(), header.length);
  copy_out(s, nullptr, datagram_record_size(header.length) - sizeof header - header.length);
  if (stack_.consumed(ref, s.rx_head, now) != 0) complain("consumed");
  return d;
}

}  // namespace postern::test
