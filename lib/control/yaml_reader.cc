#include "control/yaml_reader.h"

#include <yaml-cpp/emitterstyle.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/units.h"

namespace postern {
namespace {

// Control characters of a hostile or broken file must not reach a terminal, and an error is short.
std::string printable(std::string_view text) {
  constexpr size_t kLongest = 60;
  std::string out;
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (text.size() > kLongest) out += "...";
  return out;
}

std::string in_quotes(std::string_view text) { return '"' + printable(text) + '"'; }

std::string place(const std::string& file, const YAML::Mark& mark) {
  if (mark.is_null()) return file + ":1:1";
  return file + ':' + std::to_string(mark.line + 1) + ':' + std::to_string(mark.column + 1);
}

std::string_view kind(const YAML::Node& node) {
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  return node.IsNull() ? "empty" : "a single value";
}

std::string join(const std::vector<std::string_view>& words) {
  std::string out;
  for (const std::string_view word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

std::string read_file(const std::string& file) {
  const auto refuse = [&](const std::string& reason) {
    throw ConfigError(file + ":1:1: cannot read the file: " + reason +
                      "; give the path of a readable YAML file");
  };
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) refuse("it is a directory");
  std::ifstream in(file, std::ios::binary);
  if (!in) refuse(std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

Field::Field(const std::string* file, std::string key, YAML::Node node, YAML::Mark fallback)
    : file_(file), key_(std::move(key)), node_(std::move(node)), fallback_(fallback) {}

YAML::Mark Field::mark() const {
  const YAML::Mark own = node_.Mark();
  // An empty value has no place of its own: point at its key.
  return own.is_null() || node_.IsNull() ? fallback_ : own;
}

std::string Field::where() const { return place(*file_, mark()); }

void Field::fail(std::string_view what, std::string_view right) const {
  std::string message = where() + ": ";
  if (!key_.empty()) message += key_ + ": ";
  message.append(what).append("; ").append(right);
  throw ConfigError(message);
}

std::string Field::text() const {
  if (!node_.IsScalar()) fail("is " + std::string(kind(node_)), "give a single value");
  if (node_.Scalar().empty()) fail("is empty", "give a value");
  return node_.Scalar();
}

uint64_t Field::integer(uint64_t low, uint64_t high) const {
  const std::string range =
      "give a whole number from " + std::to_string(low) + " to " + std::to_string(high);
  if (!node_.IsScalar()) fail("is " + std::string(kind(node_)), range);
  const std::string value = text();
  const auto number = parse_integer(value);
  if (!number) fail(in_quotes(value) + " is not a whole number", range);
  if (*number < low || *number > high) fail(value + " is out of range", range);
  return *number;
}

uint64_t Field::power_of_two(uint64_t low, uint64_t high) const {
  const uint64_t value = integer(low, high);
  if (!std::has_single_bit(value)) {
    fail(std::to_string(value) + " is not a power of two",
         "give " + std::to_string(std::bit_floor(value)) + " or " +
             std::to_string(std::min(std::bit_ceil(value), high)));
  }
  return value;
}

bool Field::boolean() const {
  const std::string value = text();
  if (value != "true" && value != "false") {
    fail(in_quotes(value) + " is neither true nor false", "write true or false");
  }
  return value == "true";
}

Duration Field::duration(Duration low, Duration high) const {
  const std::string right =
      "give a time from " + format_duration(low) + " to " + format_duration(high);
  const std::string value = text();
  const auto parsed = parse_duration(value);
  if (!parsed) {
    fail(in_quotes(value) + " is not a time", right + ", with its unit: ns, us, ms, s, m or h");
  }
  if (*parsed < low || *parsed > high) fail(value + " is out of range", right);
  return *parsed;
}

uint64_t Field::size(uint64_t low, uint64_t high, uint64_t multiple) const {
  const std::string right = "give a size from " + format_size(low) + " to " + format_size(high);
  const std::string value = text();
  const auto parsed = parse_size(value);
  if (!parsed) {
    fail(in_quotes(value) + " is not a size", right + ", with its unit: B, KiB, MiB, GiB or TiB");
  }
  if (*parsed < low || *parsed > high) fail(value + " is out of range", right);
  if (*parsed % multiple != 0) {
    fail(value + " is not a multiple of " + format_size(multiple),
         "give " + format_size(*parsed / multiple * multiple + multiple));
  }
  return *parsed;
}

double Field::percent() const {
  const std::string value = text();
  const auto parsed = parse_percent(value);
  if (!parsed) fail(in_quotes(value) + " is not a share", "give 0% to 100%, such as 5% or 0.1%");
  return *parsed;
}

size_t Field::choice(std::span<const std::string_view> words) const {
  const std::string value = text();
  const auto found = std::find(words.begin(), words.end(), value);
  if (found == words.end()) {
    const std::string_view near = nearest(value, words);
    std::string right = near.empty() ? "" : "did you mean " + in_quotes(near) + "? ";
    fail(in_quotes(value) + " is not known here",
         right + "give one of: " + join({words.begin(), words.end()}));
  }
  return static_cast<size_t>(found - words.begin());
}

std::vector<Field> Field::list() const {
  if (!node_.IsSequence()) {
    fail("is " + std::string(kind(node_)), "give a list: [a, b] or one \"- item\" a line");
  }
  std::vector<Field> out;
  for (const YAML::Node& item : node_) {
    out.emplace_back(file_, key_ + '[' + std::to_string(out.size()) + ']', item, mark());
  }
  return out;
}

std::vector<Field::Entry> Field::entries() const {
  if (!node_.IsMap()) {
    fail("is " + std::string(kind(node_)), "give \"key: value\" lines below it");
  }
  std::vector<Entry> out;
  for (const auto& pair : node_) {
    const Field key(file_, key_, pair.first, mark());
    if (!pair.first.IsScalar()) key.fail("a key is " + std::string(kind(pair.first)), "use a word");
    const std::string& name = pair.first.Scalar();
    const auto same = [&](const Entry& entry) { return entry.name == name; };
    const auto earlier = std::find_if(out.begin(), out.end(), same);
    if (earlier != out.end()) {
      const int line = earlier->key.node_.Mark().line + 1;
      key.fail("key " + in_quotes(name) + " was already given in line " + std::to_string(line),
               "keep one of them");
    }
    out.push_back({name, key, Field(file_, name, pair.second, pair.first.Mark())});
  }
  return out;
}

void fail_unknown_key(const Field::Entry& entry, const std::vector<std::string_view>& known) {
  const std::string_view near = nearest(entry.name, known);
  std::string right = near.empty() ? "" : "did you mean " + in_quotes(near) + "? ";
  entry.key.fail("unknown key " + in_quotes(entry.name), right + "known here: " + join(known));
}

void fail_missing_key(const Field& section, std::string_view name) {
  section.fail("key " + in_quotes(name) + " is missing", "add \"" + std::string(name) + ": ...\"");
}

namespace {

// Takes no notice.
struct Nobody final : YAML::EventHandler {
  using Mark = YAML::Mark;
  using Style = YAML::EmitterStyle::value;
  void OnDocumentStart(const Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const Mark&, YAML::anchor_t) override {}
  void OnAlias(const Mark&, YAML::anchor_t) override {}
  void OnScalar(const Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const Mark&, const std::string&, YAML::anchor_t, Style) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const Mark&, const std::string&, YAML::anchor_t, Style) override {}
  void OnMapEnd() override {}
};

// Counted no further than needed: of some malformed files yaml-cpp 0.7 makes documents without end.
bool has_several_documents(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  Nobody nobody;
  return parser.HandleNextDocument(nobody) && parser.HandleNextDocument(nobody);
}

}  // namespace

Field load_document(const std::string& file) {
  const std::string text = read_file(file);
  try {
    const bool several = has_several_documents(text);
    const YAML::Node document = several ? YAML::Node() : YAML::Load(text);
    if (document.IsMap()) return {&file, "", document, YAML::Mark::null_mark()};
    throw ConfigError(
        file + ":1:1: " +
        (several ? "the file holds several YAML documents" : "the file is not a YAML map") +
        "; write \"ports:\" and the other sections, see postern.yaml(5)");
  } catch (const YAML::Exception& error) {
    throw ConfigError(place(file, error.mark) + ": not valid YAML: " + error.msg +
                      "; check indentation, colons and quotes here");
  }
}

}  // namespace postern
