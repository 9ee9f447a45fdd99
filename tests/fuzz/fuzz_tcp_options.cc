// libFuzzer target: any bytes as the option list of a TCP header, read by wire::parse_tcp and by a
// second reader that is written as the RFC lists them; and any options written, then read back.
#include <array>
#include <cstring>
#include <vector>

#include "bytes.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace {

using namespace postern;

constexpr size_t kHeader = 20;
constexpr size_t kMostOptions = 40;

// The options as a sender meant them: a list of (kind, body), or nothing if a length is impossible.
struct Reader {
  explicit Reader(std::span<const uint8_t> options) : left(options) {}

  bool read(TcpSegment& s) {
    while (!left.empty()) {
      const uint8_t kind = left[0];
      if (kind == 0) return true;
      if (kind == 1) {
        left = left.subspan(1);
        continue;
      }
      if (left.size() < 2 || left[1] < 2 || left[1] > left.size()) return false;
      if (!take(kind, left.subspan(2, left[1] - 2U), s)) return false;
      left = left.subspan(left[1]);
    }
    return true;
  }

 private:
  static uint32_t number(std::span<const uint8_t> bytes) {
    uint32_t value = 0;
    for (const uint8_t b : bytes) value = value << 8 | b;
    return value;
  }
  static bool take(uint8_t kind, std::span<const uint8_t> body, TcpSegment& s) {
    if (kind == 2) {
      if (body.size() != 2) return false;
      s.has_mss = true;
      s.mss = static_cast<uint16_t>(number(body));
    } else if (kind == 3) {
      if (body.size() != 1) return false;
      s.has_window_scale = true;
      s.window_scale = body[0] > 14 ? 14 : body[0];
    } else if (kind == 4) {
      if (!body.empty()) return false;
      s.sack_permitted = true;
    } else if (kind == 5) {
      if (body.empty() || body.size() % 8 != 0 || body.size() > 32) return false;
      s.sack_count = static_cast<uint8_t>(body.size() / 8);
      for (size_t i = 0; i < s.sack_count; ++i) {
        s.sack[i] = {number(body.subspan(8 * i, 4)), number(body.subspan(8 * i + 4, 4))};
      }
    } else if (kind == 8) {
      if (body.size() != 8) return false;
      s.has_timestamps = true;
      s.ts_value = number(body.first(4));
      s.ts_echo = number(body.last(4));
    }
    return true;
  }

  std::span<const uint8_t> left;
};

Drop parse(const std::byte* header, size_t options, TcpSegment* out) {
  RxPacket packet;
  packet.data = header;
  packet.length = static_cast<uint32_t>(kHeader + options);
  ParsedPacket parsed;
  parsed.kind = PacketKind::tcp;
  parsed.tcp_options_length = static_cast<uint8_t>(options);
  return wire::parse_tcp(packet, parsed, out);
}

void require_equal(const TcpSegment& a, const TcpSegment& b) {
  require(a.has_mss == b.has_mss && a.mss == b.mss, "the MSS is the same");
  require(a.has_window_scale == b.has_window_scale && a.window_scale == b.window_scale,
          "the window scale is the same");
  require(a.sack_permitted == b.sack_permitted, "SACK permitted is the same");
  require(
      a.has_timestamps == b.has_timestamps && a.ts_value == b.ts_value && a.ts_echo == b.ts_echo,
      "the timestamps are the same");
  require(a.sack_count == b.sack_count, "there are as many SACK blocks");
  for (size_t i = 0; i < a.sack_count; ++i) {
    require(a.sack[i].left == b.sack[i].left && a.sack[i].right == b.sack[i].right,
            "the SACK blocks are the same");
  }
}

void read_any(std::span<const uint8_t> options) {
  std::vector<std::byte> header(kHeader + options.size());  // its end is where ASan watches
  if (!options.empty()) std::memcpy(header.data() + kHeader, options.data(), options.size());
  TcpSegment mine;
  TcpSegment theirs;
  const bool good = Reader(options).read(theirs);
  require((parse(header.data(), options.size(), &mine) == Drop::none) == good,
          "both readers agree whether the options are well-formed");
  if (good) require_equal(mine, theirs);
}

void write_any(Bytes& in) {
  TcpSegment s;
  const uint8_t which = in.byte();
  if ((which & 1) != 0) {
    s.has_mss = true;
    s.mss = in.half();
  }
  if ((which & 2) != 0) {
    s.has_window_scale = true;
    s.window_scale = in.byte() % 15;
  }
  s.sack_permitted = (which & 4) != 0;
  if ((which & 8) != 0) {
    s.has_timestamps = true;
    s.ts_value = in.word();
    s.ts_echo = in.word();
  }
  // No SYN carries blocks, and on a SYN that is full there is no room for them.
  if ((which & 7) == 0) s.sack_count = in.byte() % 5;
  for (size_t i = 0; i < s.sack_count; ++i) s.sack[i] = {in.word(), in.word()};
  std::array<std::byte, kHeader + kMostOptions> header{};
  const size_t length = wire::tcp_header_length(s);
  require(length >= kHeader && length <= header.size() && length % 4 == 0, "the length fits");
  require(wire::write_tcp(header.data(), 1, 2, s) == length, "as long as it was said");
  TcpSegment again;
  require(parse(header.data(), length - kHeader, &again) == Drop::none, "what is written is right");
  if (s.has_timestamps && s.sack_count == 4) s.sack_count = 3;  // as many as fit
  require_equal(s, again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Bytes in(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    read_any(in.take(kMostOptions));
  } else {
    write_any(in);
  }
  return 0;
}
