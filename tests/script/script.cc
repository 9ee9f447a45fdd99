#include "script.h"

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace postern::script {

namespace {

struct Fault {
  std::string what;
};

// Reads one line from the left.
class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool done() {
    skip_space();
    return at_ == text_.size();
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(const std::string& token) {
    skip_space();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    at_ += token.size();
    return true;
  }
  // The same, and what follows is not part of a longer word.
  bool take_word(const std::string& token) {
    const size_t before = at_;
    if (take(token) &&
        (at_ == text_.size() || std::isalnum(static_cast<unsigned char>(text_[at_])) == 0)) {
      return true;
    }
    at_ = before;
    return false;
  }
  void need(const std::string& token) {
    if (!take(token)) throw Fault{"expected '" + token + "' at '" + rest() + "'"};
  }
  uint32_t number() {
    skip_space();
    const char* const begin = text_.c_str() + at_;
    char* end = nullptr;
    const unsigned long long value = std::strtoull(begin, &end, 0);
    if (end == begin || value > UINT32_MAX) throw Fault{"expected a number at '" + rest() + "'"};
    at_ += static_cast<size_t>(end - begin);
    return static_cast<uint32_t>(value);
  }
  Duration seconds() {
    skip_space();
    const char* const begin = text_.c_str() + at_;
    // strtod would take the first dot of "...".
    size_t length = 0;
    while (std::isdigit(static_cast<unsigned char>(begin[length])) != 0) ++length;
    if (begin[length] == '.' && begin[length + 1] != '.') {
      ++length;
      while (std::isdigit(static_cast<unsigned char>(begin[length])) != 0) ++length;
    }
    if (length == 0) throw Fault{"expected a time at '" + rest() + "'"};
    const std::string digits(begin, length);
    at_ += length;
    return Duration(static_cast<int64_t>(std::strtod(digits.c_str(), nullptr) * 1e9 + 0.5));
  }
  std::string word() {
    skip_space();
    const size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_')) {
      ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }
  std::string until_any(const std::string& stops) {
    const size_t begin = at_;
    while (at_ < text_.size() && stops.find(text_[at_]) == std::string::npos) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  std::string rest() const { return text_.substr(at_); }

 private:
  const std::string& text_;
  size_t at_ = 0;
};

std::string trim(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

uint8_t parse_flags(Reader& r) {
  static const std::map<char, uint8_t> names{
      {'S', tcp_flag::syn}, {'F', tcp_flag::fin}, {'R', tcp_flag::rst}, {'P', tcp_flag::psh},
      {'.', tcp_flag::ack}, {'U', tcp_flag::urg}, {'E', tcp_flag::ece}, {'W', tcp_flag::cwr}};
  r.skip_space();
  const std::string token = r.until_any(" \t");
  uint8_t flags = 0;
  if (token == "-") return 0;  // no flag at all
  for (const char c : token) {
    const auto it = names.find(c);
    if (it == names.end()) throw Fault{"unknown TCP flag '" + std::string(1, c) + "'"};
    flags = static_cast<uint8_t>(flags | it->second);
  }
  if (token.empty()) throw Fault{"expected TCP flags"};
  return flags;
}

void parse_option(Reader& r, PacketSpec& p) {
  TcpSegment& s = p.segment;
  if (r.take("...")) {
    p.any_options = true;
  } else if (r.take_word("mss")) {
    s.has_mss = true;
    s.mss = static_cast<uint16_t>(r.number());
  } else if (r.take_word("wscale")) {
    s.has_window_scale = true;
    s.window_scale = static_cast<uint8_t>(r.number());
  } else if (r.take_word("sackOK")) {
    s.sack_permitted = true;
  } else if (r.take_word("TS")) {
    s.has_timestamps = true;
    r.need("val");
    s.ts_value = r.number();
    r.need("ecr");
    s.ts_echo = r.number();
  } else if (r.take_word("sack")) {
    while (std::isdigit(static_cast<unsigned char>(r.peek())) != 0) {
      if (s.sack_count == s.sack.size()) throw Fault{"more than four SACK blocks"};
      SackBlock& b = s.sack[s.sack_count++];
      b.left = r.number();
      r.need(":");
      b.right = r.number();
    }
  } else if (!r.take_word("nop") && !r.take_word("eol")) {
    throw Fault{"unknown TCP option at '" + r.rest() + "'"};
  }
}

void parse_icmp(Reader& r, PacketSpec& p) {
  static const std::map<std::string, int> errors{{"net_unreachable", ENETUNREACH},
                                                 {"host_unreachable", EHOSTUNREACH},
                                                 {"protocol_unreachable", ENOPROTOOPT},
                                                 {"port_unreachable", ECONNREFUSED}};
  p.icmp = true;
  r.need("unreachable");
  const std::string code = r.word();
  if (code == "frag_needed") {
    r.need("mtu");
    p.icmp_mtu = r.number();
  } else if (errors.count(code) != 0) {
    p.icmp_errno = errors.at(code);
  } else {
    throw Fault{"unknown ICMP code '" + code + "'"};
  }
  r.need("[");
  p.segment.seq = r.number();
  r.need(":");
  (void)r.number();
  r.need("(");
  (void)r.number();
  r.need(")");
  r.need("]");
}

PacketSpec parse_packet(Reader& r) {
  PacketSpec p;
  if (r.take_word("icmp")) {
    parse_icmp(r, p);
    return p;
  }
  if (r.take("[")) {
    static const std::map<std::string, uint8_t> bits{
        {"noecn", 0}, {"ect1", 1}, {"ect0", 2}, {"ce", 3}};
    const std::string name = r.word();
    if (bits.count(name) == 0) throw Fault{"unknown ECN name '" + name + "'"};
    p.segment.ecn = bits.at(name);
    p.has_ecn = true;
    r.need("]");
  }
  p.segment.flags = parse_flags(r);
  p.segment.seq = r.number();
  r.need(":");
  const uint32_t end = r.number();
  r.need("(");
  p.segment.length = r.number();
  r.need(")");
  if (p.segment.seq + p.segment.length != end) throw Fault{"the range and the length disagree"};
  if (r.take_word("ack")) {
    p.has_ack = true;
    p.segment.ack = r.number();
  }
  if (p.has_ack != ((p.segment.flags & tcp_flag::ack) != 0))
    throw Fault{"'.' and 'ack' go together"};
  if (r.take_word("win")) {
    p.has_window = true;
    p.segment.window = static_cast<uint16_t>(r.number());
  }
  if (r.take_word("urg")) p.segment.urgent = static_cast<uint16_t>(r.number());
  if (r.take("<")) {
    while (!r.take(">")) {
      parse_option(r, p);
      (void)r.take(",");
    }
  }
  if (!r.done()) throw Fault{"what is '" + r.rest() + "'?"};
  return p;
}

Call parse_call(Reader& r) {
  Call call;
  call.name = r.word();
  if (call.name.empty()) throw Fault{"expected a packet or a call at '" + r.rest() + "'"};
  r.need("(");
  int depth = 0;
  std::string argument;
  for (;;) {
    const std::string part = r.until_any("()[]{},");
    argument += part;
    const std::string all = r.rest();
    if (all.empty()) throw Fault{"')' is missing"};
    const char c = all[0];
    r.need(std::string(1, c));
    if (depth == 0 && (c == ',' || c == ')')) {
      if (!trim(argument).empty()) call.arguments.push_back(trim(argument));
      argument.clear();
      if (c == ')') break;
      continue;
    }
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
    argument += c;
  }
  r.need("=");
  const bool negative = r.take("-");
  call.result = static_cast<long>(r.number());
  if (negative) call.result = -call.result;
  if (call.result < 0) {
    call.error = r.word();
    (void)r.until_any("");  // the message in brackets
  }
  return call;
}

// %{ assert a == b and ..., text }%  The subset of Python that comparisons need.
std::vector<Assertion> parse_assertions(const std::string& body) {
  std::vector<Assertion> all;
  std::string text = trim(body);
  if (text.rfind("assert", 0) != 0) throw Fault{"only 'assert' is known here"};
  text = text.substr(6);
  while (!text.empty()) {
    size_t end = text.find(" and ");
    std::string one = text.substr(0, end);
    text = end == std::string::npos ? "" : text.substr(end + 5);
    if (text.empty()) one = one.substr(0, one.find(','));
    Assertion a;
    for (const char* op : {"==", "!=", "<=", ">=", "<", ">"}) {
      const size_t at = one.find(op);
      if (at == std::string::npos) continue;
      a.op = op;
      a.left = trim(one.substr(0, at));
      a.right = trim(one.substr(at + a.op.size()));
      break;
    }
    if (a.op.empty() || a.left.empty() || a.right.empty()) throw Fault{"expected 'name op number'"};
    all.push_back(a);
  }
  return all;
}

class Parser {
 public:
  Parser(const std::string& path, const std::string& text) : text_(text) { script_.path = path; }

  Script run() {
    size_t at = 0;
    bool comment = false;
    while (at < text_.size()) {
      size_t end = text_.find('\n', at);
      if (end == std::string::npos) end = text_.size();
      std::string line = text_.substr(at, end - at);
      at = end + 1;
      ++line_;
      strip_comments(line, comment);
      line = trim(line);
      if (!line.empty()) parse_line(line);
    }
    return script_;
  }
  int line() const { return line_; }

 private:
  static void strip_comments(std::string& line, bool& comment) {
    std::string out;
    for (size_t i = 0; i < line.size(); ++i) {
      if (comment) {
        if (line.compare(i, 2, "*/") == 0) {
          comment = false;
          ++i;
        }
      } else if (line.compare(i, 2, "/*") == 0) {
        comment = true;
        ++i;
      } else if (line.compare(i, 2, "//") == 0 || (line[i] == '#' && out.empty())) {
        break;
      } else {
        out += line[i];
      }
    }
    line = out;
  }

  void parse_line(const std::string& line) {
    if (line.rfind("--", 0) == 0) {
      const size_t equals = line.find('=');
      if (equals == std::string::npos) throw Fault{"expected --key=value"};
      script_.settings.push_back(
          Setting{line.substr(2, equals - 2), trim(line.substr(equals + 1))});
      return;
    }
    Event e;
    e.line = line_;
    e.text = line;
    Reader r(line);
    parse_time(r, e);
    if (r.take("<")) {
      e.type = Event::Type::inbound;
      e.packet = parse_packet(r);
    } else if (r.take(">")) {
      e.type = Event::Type::outbound;
      e.packet = parse_packet(r);
    } else if (r.take("%{")) {
      e.type = Event::Type::assertion;
      const std::string rest = r.rest();
      const size_t end = rest.find("}%");
      if (end == std::string::npos) throw Fault{"'}%' is missing on the line"};
      e.assertions = parse_assertions(rest.substr(0, end));
    } else {
      e.call = parse_call(r);
    }
    script_.events.push_back(e);
  }

  Time parse_point(Reader& r) {
    if (r.take("+")) return last_ + r.seconds();
    return Time(r.seconds());
  }

  void parse_time(Reader& r, Event& e) {
    if (r.take("*")) {
      e.any_time = true;
      e.earliest = e.latest = last_;
      return;
    }
    const char c = r.peek();
    if (c == '+' || c == '.' || std::isdigit(static_cast<unsigned char>(c)) != 0) {
      e.earliest = e.latest = parse_point(r);
      if (r.take("~")) e.latest = parse_point(r);
      if (r.take("...")) (void)parse_point(r);  // a blocking call: when it returns is not checked
    } else {
      e.earliest = e.latest = last_;
    }
    if (e.earliest < last_) throw Fault{"time goes backwards"};
    last_ = e.earliest;
  }

  const std::string& text_;
  Script script_;
  Time last_{};
  int line_ = 0;
};

}  // namespace

std::optional<Script> parse(const std::string& path, const std::string& text, std::string& error) {
  Parser parser(path, text);
  try {
    return parser.run();
  } catch (const Fault& fault) {
    error = path + ":" + std::to_string(parser.line()) + ": " + fault.what;
    return std::nullopt;
  }
}

std::optional<Duration> parse_duration(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return std::nullopt;
  const std::string unit = end;
  double scale = 0;
  if (unit == "us") scale = 1e3;
  if (unit == "ms") scale = 1e6;
  if (unit == "s") scale = 1e9;
  if (scale == 0) return std::nullopt;
  return Duration(static_cast<int64_t>(value * scale));
}

std::string to_string(const PacketSpec& p, bool outbound) {
  const TcpSegment& s = p.segment;
  std::string out = outbound ? "> " : "< ";
  if (s.ecn != 0) out += s.ecn == 1 ? "[ect1] " : s.ecn == 2 ? "[ect0] " : "[ce] ";
  const std::pair<uint8_t, char> names[] = {
      {tcp_flag::syn, 'S'}, {tcp_flag::fin, 'F'}, {tcp_flag::rst, 'R'}, {tcp_flag::psh, 'P'},
      {tcp_flag::ece, 'E'}, {tcp_flag::cwr, 'W'}, {tcp_flag::urg, 'U'}, {tcp_flag::ack, '.'}};
  for (const auto& [bit, name] : names) {
    if ((s.flags & bit) != 0) out += name;
  }
  out += " " + std::to_string(s.seq) + ":" + std::to_string(s.seq + s.length) + "(" +
         std::to_string(s.length) + ")";
  if ((s.flags & tcp_flag::ack) != 0) out += " ack " + std::to_string(s.ack);
  out += " win " + std::to_string(s.window);
  std::string options;
  const auto add = [&](const std::string& o) { options += (options.empty() ? "" : ",") + o; };
  if (s.has_mss) add("mss " + std::to_string(s.mss));
  if (s.sack_permitted) add("sackOK");
  if (s.has_timestamps) {
    add("TS val " + std::to_string(s.ts_value) + " ecr " + std::to_string(s.ts_echo));
  }
  if (s.has_window_scale) add("wscale " + std::to_string(s.window_scale));
  if (s.sack_count != 0) {
    std::string blocks = "sack";
    for (int i = 0; i < s.sack_count; ++i) {
      blocks += " " + std::to_string(s.sack[i].left) + ":" + std::to_string(s.sack[i].right);
    }
    add(blocks);
  }
  if (!options.empty()) out += " <" + options + ">";
  return out;
}

}  // namespace postern::script
