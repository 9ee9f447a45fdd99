// TCP segments into frames: headers, payload out of the application's memory, checksum.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/checksum.h"
#include "stack/common_frame.h"
#include "stack/core.h"
#include "wire/build.h"

namespace postern {

// The neighbor of a connection, by its handle while that is good. Nothing happens to a neighbor
// within one egress().
NeighborTable::Resolution StackCore::tcp_resolve(TcpSocket& socket) noexcept {
  if (socket.neighbor == known_neighbor_) return NeighborTable::Resolution::resolved;
  const auto resolution = neighbors_.resolve(socket.neighbor, now_);
  if (resolution == NeighborTable::Resolution::resolved) known_neighbor_ = socket.neighbor;
  if (resolution != NeighborTable::Resolution::full) return resolution;
  Path path;
  if (find_path(socket.key.remote, &path, socket.interface, &socket.key) != 0) {
    return NeighborTable::Resolution::failed;
  }
  socket.interface = path.interface;
  socket.neighbor = path.neighbor;
  return path.resolution;
}

// As much as fits into `frames`; the socket was taken off the ready list.
size_t StackCore::tcp_output(TcpSocket& socket, std::span<TxFrame> frames) noexcept {
  const auto resolution = tcp_resolve(socket);
  if (resolution == NeighborTable::Resolution::pending) {
    waiting_[socket.neighbor.index].push_back(socket);
    return 0;
  }
  size_t n = 0;
  TcpSegment segment;
  TcpContext& ctx = tcp_context(socket);
  const bool tso = interfaces_[socket.interface].offloads.tso;
  while (n < frames.size() && cut_.socket == nullptr) {
    if (tso && n != 0 && frames.size() - n < kTurn) break;  // room for one of any length, or later
    if (!socket.tcp.wants_output() || !socket.tcp.next_segment(ctx, segment)) break;
    if (resolution != NeighborTable::Resolution::resolved) {
      counters.drop(Drop::neighbor_unreachable);  // as if the network had lost it
      if (++n == frames.size()) break;
      continue;
    }
    if (segment.gso_size == 0 || segment.length <= segment.gso_size) {
      build_tcp(socket, segment, frames[n++]);
      continue;
    }
    if (const size_t used = tso ? build_whole(socket, segment, frames.subspan(n)) : 0; used != 0) {
      n += used;
      continue;
    }
    cut_ = {&socket, segment, 0};
    n += cut_output(frames.subspan(n));
  }
  settle(socket);
  if (resolution != NeighborTable::Resolution::resolved) return 0;
  return n;
}

// A segment that the device cuts up, in as many frames as its bytes need; how many, 0: too few.
size_t StackCore::build_whole(TcpSocket& socket, const TcpSegment& segment,
                              std::span<TxFrame> frames) noexcept {
  TxFrame& head = frames.front();
  const uint32_t first =
      std::min<uint32_t>(segment.length, head.capacity - static_cast<uint32_t>(wire::kMaxHeaders));
  uint32_t done = first;
  size_t used = 1;
  for (; done < segment.length && used < frames.size(); ++used) done += frames[used].capacity;
  if (done < segment.length) return 0;

  std::byte* const l4 = build_headers(socket, segment, head);
  std::byte* const payload = l4 + head.l4_length;
  head.tso_mss = segment.gso_size;
  head.pieces = static_cast<uint16_t>(used - 1);
  head.length = static_cast<uint32_t>(payload - head.data) + first;
  (void)copy_payload(socket, segment.tx_position, first, payload, false);
  done = first;
  for (TxFrame& piece : frames.subspan(1, used - 1)) {
    piece.length = std::min(piece.capacity, segment.length - done);
    (void)copy_payload(socket, segment.tx_position + done, piece.length, piece.data, false);
    done += piece.length;
  }
  head.needs_l4_checksum = true;
  wire::offload_checksum(l4, socket.key.local, socket.key.remote, Protocol::tcp, 0);
  return used;
}

// Sends the segment in cut_ piece by piece, over several calls if frames run out.
size_t StackCore::cut_output(std::span<TxFrame> frames) noexcept {
  TcpSocket& socket = *cut_.socket;
  // Between two calls the peer may have acknowledged what it has not seen, or the connection may
  // have ended: the extents up to here are gone.
  const uint32_t begin = socket.tx.begin();
  if (seq_gt(begin, cut_.segment.tx_position + cut_.done)) {
    cut_.done = std::min(begin - cut_.segment.tx_position, cut_.segment.length);
  }
  size_t n = 0;
  while (n < frames.size() && cut_.done < cut_.segment.length) {
    TcpSegment piece = cut_.segment;
    piece.gso_size = 0;
    piece.seq += cut_.done;
    piece.tx_position += cut_.done;
    piece.length = std::min<uint32_t>(cut_.segment.gso_size, cut_.segment.length - cut_.done);
    cut_.done += piece.length;
    const bool last = cut_.done == cut_.segment.length;
    if (!last) piece.flags &= static_cast<uint8_t>(~(tcp_flag::fin | tcp_flag::psh));
    if (piece.seq != cut_.segment.seq) piece.flags &= static_cast<uint8_t>(~tcp_flag::cwr);
    build_tcp(socket, piece, frames[n++]);
  }
  if (cut_.done == cut_.segment.length) cut_.socket = nullptr;
  return n;
}

void StackCore::build_tcp(TcpSocket& socket, const TcpSegment& segment, TxFrame& frame) noexcept {
  const Interface& link = interfaces_[socket.interface];
  if (socket.is_v4 && link.vlan == 0 && is_common_segment(segment)) {
    return build_common(socket, link, segment, frame);
  }
  const FlowKey& key = socket.key;
  const L4Checksum by = link.offloads.l4_checksum;
  const bool software = by == L4Checksum::software;
  std::byte* const l4 = build_headers(socket, segment, frame);
  const uint32_t header = frame.l4_length;
  const bool gather = link.offloads.gather;
  const uint32_t sum =
      segment.length == 0 || (gather && gather_payload(socket, segment, frame))
          ? 0
          : copy_payload(socket, segment.tx_position, segment.length, l4 + header, software);
  if (by == L4Checksum::device) {
    frame.needs_l4_checksum = true;
    wire::offload_checksum(l4, key.local, key.remote, Protocol::tcp, header + segment.length);
  } else if (software) {
    wire::finish_checksum(l4, header, sum, segment.length, key.local, key.remote, Protocol::tcp);
  }
}

// All of them but the checksum of TCP; returns where TCP's begin.
std::byte* StackCore::build_headers(TcpSocket& socket, const TcpSegment& segment,
                                    TxFrame& frame) noexcept {
  const FlowKey& key = socket.key;
  const auto header = static_cast<uint32_t>(wire::tcp_header_length(segment));
  std::byte* const l4 =
      begin_ip(frame, socket.interface, neighbors_.mac(socket.neighbor),
               {.source = key.local,
                .destination = key.remote,
                .protocol = static_cast<uint8_t>(Protocol::tcp),
                .ttl = socket.ttl,
                .tos = static_cast<uint8_t>((socket.tos & 0xfc) | segment.ecn),
                .id = ++ip_id_,
                .payload_length = header + segment.length,
                .offload_checksum = interfaces_[socket.interface].offloads.ip_checksum});
  wire::write_tcp(l4, key.local_port, key.remote_port, segment);
  frame.l4_length = static_cast<uint8_t>(header);
  return l4;
}

// The same for what almost every segment is (common_frame.h).
void StackCore::build_common(TcpSocket& socket, const Interface& link, const TcpSegment& segment,
                             TxFrame& frame) noexcept {
  const TxOffloads& offloads = link.offloads;
  const CommonHeaders headers =
      write_common_headers(frame.data, socket.key, segment,
                           {.destination = neighbors_.mac(socket.neighbor),
                            .source = link.mac,
                            .id = ++ip_id_,
                            .tos = static_cast<uint8_t>((socket.tos & 0xfc) | segment.ecn),
                            .ttl = socket.ttl,
                            .offload_ip_checksum = offloads.ip_checksum});
  describe_common(frame, Protocol::tcp, headers.length - kCommonL4, offloads);
  frame.interface = socket.interface;
  frame.length = headers.length + segment.length;
  const uint32_t payload =
      segment.length == 0 || (offloads.gather && gather_payload(socket, segment, frame))
          ? 0
          : copy_payload(socket, segment.tx_position, segment.length, frame.data + headers.length,
                         offloads.l4_checksum == L4Checksum::software);
  finish_common_checksum(frame.data, headers, payload, offloads.l4_checksum);
}

// Names the payload instead of copying it, if all of it lies together. What is short is copied as
// fast as it is named.
bool StackCore::gather_payload(TcpSocket& socket, const TcpSegment& segment,
                               TxFrame& frame) noexcept {
  constexpr uint32_t kShort = 512;
  if (segment.length < kShort) return false;
  const TxQueue::Piece piece = socket.tx.at(extents_, segment.tx_position, segment.length);
  if (piece.length != segment.length) return false;
  frame.payload = apps_[socket.app].memory().tx_pool + piece.offset;
  frame.payload_length = piece.length;
  frame.length -= piece.length;
  return true;
}

// One pass over the payload. Extents were checked against the transmit region when they were
// queued; their content is the application's business.
uint32_t StackCore::copy_payload(TcpSocket& socket, uint32_t position, uint32_t length,
                                 std::byte* out, bool checksum) noexcept {
  const std::byte* const memory = apps_[socket.app].memory().tx_pool;
  const TxQueue::Piece piece = socket.tx.at(extents_, position, length);
  if (piece.length == length) {
    if (checksum) return copy_and_checksum(out, memory + piece.offset, length);
    std::memcpy(out, memory + piece.offset, length);
    return 0;
  }
  return copy_pieces(socket, position, length, out, checksum);
}

uint32_t StackCore::copy_pieces(TcpSocket& socket, uint32_t position, uint32_t length,
                                std::byte* out, bool checksum) noexcept {
  const std::byte* const memory = apps_[socket.app].memory().tx_pool;
  Checksum sum;
  for (;;) {
    const TxQueue::Piece piece = socket.tx.at(extents_, position, length);
    if (checksum) {
      sum.copy(out, memory + piece.offset, piece.length);
    } else {
      std::memcpy(out, memory + piece.offset, piece.length);
    }
    length -= piece.length;
    if (length == 0) return sum.sum();
    position += piece.length;
    out += piece.length;
  }
}

}  // namespace postern
