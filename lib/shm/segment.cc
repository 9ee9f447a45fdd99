#include "shm/segment.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "shm/segment_impl.h"
#include "shm/sleep_fence.h"

namespace postern {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPoolUnit = uint64_t{SHM_CHUNK_UNIT} * SHM_CHUNK_LARGE_UNITS;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// Hands out page-aligned regions of one segment, header and region table first.
class Layout {
 public:
  explicit Layout(uint32_t region_count)
      : end_(round(sizeof(shm_header) + region_count * sizeof(shm_region))) {}

  uint64_t add(shm_region_kind kind, uint32_t channel, uint64_t bytes) {
    const uint64_t offset = end_;
    table_.push_back({static_cast<uint32_t>(kind), channel, offset, bytes});
    end_ = offset + round(bytes);
    return offset;
  }
  [[nodiscard]] uint64_t size() const { return end_; }
  [[nodiscard]] const std::vector<shm_region>& table() const { return table_; }

 private:
  static uint64_t round(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
  std::vector<shm_region> table_;
  uint64_t end_;
};

constexpr uint32_t kDaemonRegions = 6;  // per channel
constexpr uint32_t kClientRegions = 5;

void check(const SegmentOptions& o) {
  const bool sane = o.channels >= 1 && o.channels <= SHM_MAX_CHANNELS && o.slots >= 1 &&
                    o.client_slots <= o.slots && std::has_single_bit(o.slots) &&
                    std::has_single_bit(o.command_entries) && o.command_entries <= (1U << 24) &&
                    std::has_single_bit(o.event_entries) && o.event_entries <= (1U << 24) &&
                    o.rx_pool_bytes >= kPoolUnit && o.rx_pool_bytes % kPoolUnit == 0 &&
                    o.tx_pool_bytes >= kPoolUnit && o.tx_pool_bytes % kPoolUnit == 0 &&
                    o.rx_pool_bytes / SHM_CHUNK_UNIT <= UINT32_MAX;
  if (!sane) throw std::invalid_argument("segment options out of range");
}

void write_header(const MemoryFile& file, const SegmentOptions& o, const Layout& layout) {
  shm_header h{};
  h.magic = SHM_MAGIC;
  h.version_major = SHM_VERSION_MAJOR;
  h.version_minor = SHM_VERSION_MINOR;
  h.features = fences_for_clients() ? SHM_FEATURE_WORKER_MEMBARRIER : 0;
  h.segment_size = file.size;
  h.channel_count = o.channels;
  h.slots = o.slots;
  h.client_slots = o.client_slots;
  h.command_entries = o.command_entries;
  h.event_entries = o.event_entries;
  h.region_count = static_cast<uint32_t>(layout.table().size());
  h.state = SHM_STATE_RUNNING;
  h.regions_offset = sizeof(shm_header);
  std::memcpy(file.base, &h, sizeof h);
  std::memcpy(file.base + h.regions_offset, layout.table().data(),
              layout.table().size() * sizeof(shm_region));
}

// A second open file description of the pipe behind `fd`.
Fd reopen(const Fd& fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const int again = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (again < 0) fail("reopen of a doorbell through /proc/self/fd");
  return Fd(again);
}

enum class DaemonEnd { read, write };

Doorbell make_doorbell(DaemonEnd end) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) fail("pipe2");
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  // Best effort: one page is plenty, and pipe buffers are a bounded resource of the user.
  (void)::fcntl(reader.get(), F_SETPIPE_SZ, static_cast<int>(kPage));
  Doorbell bell;
  bell.theirs = reopen(reader);
  bell.ours = std::move(end == DaemonEnd::read ? reader : writer);
  return bell;
}

}  // namespace

MemoryFile::~MemoryFile() {
  if (base != nullptr) ::munmap(base, size);
}

void MemoryFile::create(const char* name, uint64_t bytes) {
  fd = Fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd.get() < 0) fail("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) fail("ftruncate of a segment");
  void* map = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) fail("mmap of a segment");
  base = static_cast<std::byte*>(map);
  size = bytes;
}

// fallocate() first: it reports a lack of memory as ENOSPC, where touching would raise SIGBUS.
void MemoryFile::fault_in(uint64_t offset, uint64_t bytes) {
  if (::fallocate(fd.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
    fail("memory for a segment");
  }
  const uint64_t end = offset + (bytes + kPage - 1) / kPage * kPage;
  if (::madvise(base + offset, end - offset, MADV_POPULATE_WRITE) == 0) return;
  for (uint64_t at = offset; at < end; at += kPage) {  // kernels before 5.14
    auto* byte = reinterpret_cast<volatile uint8_t*>(base + at);
    *byte = *byte;
  }
}

void MemoryFile::seal(unsigned seals) {
  if (::fcntl(fd.get(), F_ADD_SEALS, static_cast<int>(seals)) != 0) fail("F_ADD_SEALS");
}

std::unique_ptr<AppSegment> AppSegment::create(const SegmentOptions& options) {
  check(options);
  std::unique_ptr<AppSegment> segment(new AppSegment);
  segment->options_ = options;
  segment->impl_ = std::make_unique<Impl>();
  Impl& impl = *segment->impl_;
  const SegmentOptions& o = segment->options_;

  Layout daemon(kDaemonRegions * o.channels + 1);
  Layout client(kClientRegions * o.channels);
  for (uint32_t c = 0; c < o.channels; ++c) {
    Impl::Regions r;
    r.control_d = daemon.add(SHM_REGION_CHANNEL_DAEMON, c, sizeof(shm_channel_daemon));
    r.events = daemon.add(SHM_REGION_EVENT_RING, c, uint64_t{o.event_entries} * sizeof(shm_event));
    r.sockets = daemon.add(SHM_REGION_SOCKETS, c, uint64_t{o.slots} * sizeof(shm_socket));
    r.rx_pool = daemon.add(SHM_REGION_RX_POOL, c, o.rx_pool_bytes);
    r.figures = daemon.add(SHM_REGION_FIGURES, c, sizeof(shm_figures));
    r.errors = daemon.add(SHM_REGION_ERRORS, c, SHM_ERRORS * sizeof(shm_error));
    r.control_c = client.add(SHM_REGION_CHANNEL_CLIENT, c, sizeof(shm_channel_client));
    r.commands =
        client.add(SHM_REGION_COMMAND_RING, c, uint64_t{o.command_entries} * sizeof(shm_command));
    r.requests = client.add(SHM_REGION_REQUESTS, c, uint64_t{o.client_slots} * sizeof(shm_request));
    r.tx_pool = client.add(SHM_REGION_TX_POOL, c, o.tx_pool_bytes);
    r.scratch = client.add(SHM_REGION_SCRATCH, c, SHM_SCRATCH_BYTES(o.slots, o.tx_pool_bytes));
    impl.regions.push_back(r);
  }

  const uint64_t settings = daemon.add(SHM_REGION_SETTINGS, 0, sizeof(shm_settings));

  impl.daemon.create("postern-daemon", daemon.size());
  impl.client.create("postern-client", client.size());
  for (const Impl::Regions& r : impl.regions) {
    impl.daemon.fault_in(r.control_d, sizeof(shm_channel_daemon));
    impl.daemon.fault_in(r.events, uint64_t{o.event_entries} * sizeof(shm_event));
    impl.daemon.fault_in(r.rx_pool, o.rx_pool_bytes);
    impl.daemon.fault_in(r.figures, sizeof(shm_figures));
    impl.daemon.fault_in(r.errors, SHM_ERRORS * sizeof(shm_error));
    impl.client.fault_in(r.control_c, sizeof(shm_channel_client));
    impl.client.fault_in(r.commands, uint64_t{o.command_entries} * sizeof(shm_command));
  }
  write_header(impl.daemon, o, daemon);
  write_header(impl.client, o, client);
  std::memcpy(impl.daemon.base + settings, &o.settings, sizeof o.settings);
  // The daemon's own mapping stays writable; every later one of the daemon segment cannot be.
  impl.daemon.seal(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
  impl.client.seal(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);

  for (uint32_t c = 0; c < o.channels; ++c) {
    impl.wake_worker.push_back(make_doorbell(DaemonEnd::read));
    impl.wake_client.push_back(make_doorbell(DaemonEnd::write));
  }
  return segment;
}

AppSegment::~AppSegment() = default;

int AppSegment::daemon_fd() const { return impl_->daemon.fd.get(); }
int AppSegment::client_fd() const { return impl_->client.fd.get(); }
uint64_t AppSegment::daemon_size() const { return impl_->daemon.size; }
uint64_t AppSegment::client_size() const { return impl_->client.size; }
int AppSegment::worker_doorbell(uint32_t c) const { return impl_->wake_worker.at(c).theirs.get(); }
int AppSegment::client_doorbell(uint32_t c) const { return impl_->wake_client.at(c).theirs.get(); }

void AppSegment::set_state(shm_state state, std::string_view reason) {
  auto* header = std::launder(reinterpret_cast<shm_header*>(impl_->daemon.base));
  const size_t n = std::min(reason.size(), sizeof header->state_reason - 1);
  std::memcpy(header->state_reason, reason.data(), n);
  header->state_reason[n] = '\0';
  __atomic_store_n(&header->state, static_cast<uint32_t>(state), __ATOMIC_RELEASE);
  for (const Doorbell& bell : impl_->wake_client) {
    const uint64_t one = 1;
    (void)!::write(bell.ours.get(), &one, sizeof one);
  }
}

}  // namespace postern
