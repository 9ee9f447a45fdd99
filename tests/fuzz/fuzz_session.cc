// libFuzzer target: what an application can say. A message on postern.sock, or its half of the
// shared memory: entries of the command ring, records of datagrams, its word of the event ring.
#include <netinet/in.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>

#include "bytes.h"
#include "control/session_protocol.h"
#include "shm/channel.h"

namespace {

using namespace postern;

constexpr uint32_t kEntries = 16;
constexpr uint64_t kTransmit = 64 << 10;

void check_message(std::span<const uint8_t> bytes) {
  const SessionRequest request = decode_request(std::as_bytes(bytes));
  if (const auto* attach = std::get_if<shm_attach_request>(&request)) {
    require(attach->magic == SHM_MAGIC, "ATTACH has the magic number");
    const bool ours = attach->version_major == SHM_VERSION_MAJOR;
    require(refuse_version(*attach).has_value() != ours, "another major version is refused");
    require(!ours || bytes.size() >= sizeof *attach, "ATTACH of this version is whole");
    for (const char c : program_name(*attach)) require(c > 0x20 && c < 0x7f, "a printable name");
  } else if (const auto* bind = std::get_if<shm_bind_request>(&request)) {
    require(bytes.size() == sizeof *bind, "BIND is whole");
    require(bind->type >= SHM_REQ_BIND && bind->type <= SHM_REQ_UNBIND, "a known request");
  } else {
    require(!std::get<std::string>(request).empty(), "a refusal says why");
  }
}

// One segment for all inputs, wiped in between: to make one costs a hundred system calls.
class Memory {
 public:
  Memory() {
    SegmentOptions o;
    o.slots = 64;
    o.client_slots = 32;
    o.command_entries = o.event_entries = kEntries;
    o.rx_pool_bytes = o.tx_pool_bytes = kTransmit;
    segment_ = AppSegment::create(o);
    base_ = static_cast<uint8_t*>(mmap(nullptr, segment_->client_size(), PROT_READ | PROT_WRITE,
                                       MAP_SHARED, segment_->client_fd(), 0));
    require(base_ != MAP_FAILED, "the segment can be mapped");
    commands = find<shm_command>(SHM_REGION_COMMAND_RING);
    control = find<shm_channel_client>(SHM_REGION_CHANNEL_CLIENT);
    transmit = find<uint8_t>(SHM_REGION_TX_POOL);
  }
  Channel fresh() {
    std::memset(static_cast<void*>(commands), 0, kEntries * sizeof(shm_command));
    std::memset(static_cast<void*>(control), 0, sizeof *control);
    return {*segment_, 0};
  }

  shm_command* commands = nullptr;
  shm_channel_client* control = nullptr;
  uint8_t* transmit = nullptr;

 private:
  template <class T>
  T* find(uint32_t kind) {
    const auto* h = reinterpret_cast<const shm_header*>(base_);
    const auto* r = reinterpret_cast<const shm_region*>(base_ + h->regions_offset);
    for (uint32_t i = 0; i < h->region_count; ++i) {
      if (r[i].kind == kind) return reinterpret_cast<T*>(base_ + r[i].offset);
    }
    return nullptr;
  }
  std::unique_ptr<AppSegment> segment_;
  uint8_t* base_ = nullptr;
};

// What the worker may rely on without a look of its own.
void check_command(Channel& channel, const shm_command& c) {
  require(c.slot < channel.slots() && c.generation != 0, "the slot exists");
  const bool opens = c.op == SHM_OP_OPEN || c.op == SHM_OP_CONNECT;
  require(!opens || c.slot < channel.client_slots(), "one of the client's slots");
  const bool sends = c.op == SHM_OP_SEND || c.op == SHM_OP_SENDTO;
  require(!sends || (c.length != 0 && c.offset + c.length <= kTransmit && c.offset < kTransmit),
          "the extent lies in the transmit region");
  if (c.op == SHM_OP_CONNECT) (void)channel.request(c.slot);
  if (c.op != SHM_OP_SENDTO) return;
  shm_datagram record;
  if (!channel.datagram(c, &record)) return;
  require(sizeof record + uint64_t{record.length} <= c.length, "the payload lies in its record");
}

shm_command any_command(Bytes& in) {
  shm_command c{};
  const uint8_t how = in.byte();
  c.op = in.byte() % 16;
  c.flags = (how & 1) != 0 ? in.byte() : 0;
  c.arg = (how & 2) != 0 ? in.half() : c.op == SHM_OP_OPEN ? uint16_t{IPPROTO_TCP} : in.byte() % 2;
  c.slot = (how & 4) != 0 ? in.word() : in.byte() % 64;
  c.generation = (how & 8) != 0 ? in.word() : 1;
  c.length = (how & 16) != 0 ? in.word() : in.half();
  c.offset = (how & 32) != 0 ? uint64_t{in.word()} << 32 | in.word() : uint64_t{in.byte()} * 8;
  return c;
}

void check_memory(Bytes& in) {
  static Memory memory;
  Channel channel = memory.fresh();
  uint32_t tail = 0;
  while (!in.done() && channel.violation() == nullptr) {
    const uint8_t step = in.byte();
    if (step % 4 == 0) {
      memory.control->event_head = in.near(memory.control->event_head);
      (void)channel.push_event(shm_event{});
    } else if (step % 4 == 1) {
      const auto bytes = in.take(sizeof(shm_datagram));
      if (!bytes.empty()) std::memcpy(memory.transmit + step / 4 * 8, bytes.data(), bytes.size());
    } else {
      shm_command c = any_command(in);
      c.seq = step == 255 ? in.word() : ++tail;
      memory.commands[(c.seq - 1) % kEntries] = c;
    }
    shm_command out;
    while (channel.next_command(&out)) check_command(channel, out);
    channel.publish_commands();
    require(channel.violation() == nullptr || !channel.commands_pending(),
            "nothing more is taken from a client that has to go");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Bytes in(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    check_message(in.take(size));
  } else {
    check_memory(in);
  }
  return 0;
}
