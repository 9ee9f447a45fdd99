// Reading YAML strictly: each value knows where it stands, and whatever is wrong with it ends in a
// ConfigError of the form "file:line:column: what; what would be right".
#pragma once

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "control/config.h"

namespace postern {

// One value of the document, with the key that it belongs to. Cheap to copy.
class Field {
 public:
  Field() = default;
  Field(const std::string* file, std::string key, YAML::Node node, YAML::Mark fallback);

  [[noreturn]] void fail(std::string_view what, std::string_view right) const;
  [[nodiscard]] std::string where() const;  // "file:line:column"
  [[nodiscard]] const std::string& key() const { return key_; }
  [[nodiscard]] bool present() const { return file_ != nullptr; }

  // A scalar, not empty.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] uint64_t integer(uint64_t low, uint64_t high) const;
  [[nodiscard]] uint64_t power_of_two(uint64_t low, uint64_t high) const;
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] Duration duration(Duration low, Duration high) const;
  [[nodiscard]] uint64_t size(uint64_t low, uint64_t high, uint64_t multiple = 1) const;
  [[nodiscard]] double percent() const;
  // Index of the word in `words`.
  [[nodiscard]] size_t choice(std::span<const std::string_view> words) const;
  [[nodiscard]] std::vector<Field> list() const;  // keys are "key[0]", "key[1]", ...
  [[nodiscard]] bool is_null() const { return node_.IsNull(); }

  struct Entry;
  // A map with its keys in order. Duplicate keys are refused.
  [[nodiscard]] std::vector<Entry> entries() const;

 private:
  [[nodiscard]] YAML::Mark mark() const;

  const std::string* file_ = nullptr;
  std::string key_;
  YAML::Node node_;
  YAML::Mark fallback_ = YAML::Mark::null_mark();
};

struct Field::Entry {
  std::string name;
  Field key;  // stands where the key stands
  Field value;
};

// A known key of a section and what reads it.
template <class T>
struct Key {
  std::string_view name;
  void (*read)(const Field& value, T& out);
  bool required = false;
};

[[noreturn]] void fail_unknown_key(const Field::Entry& entry,
                                   const std::vector<std::string_view>& known);
[[noreturn]] void fail_missing_key(const Field& section, std::string_view name);

// Reads a map by its table of keys: an unknown key and a missing required one are errors.
template <class T>
void read_section(const Field& section, std::span<const Key<T>> keys, T& out) {
  std::vector<std::string_view> seen;
  for (const Field::Entry& entry : section.entries()) {
    const Key<T>* match = nullptr;
    for (const Key<T>& key : keys) {
      if (key.name == entry.name) match = &key;
    }
    if (match == nullptr) {
      std::vector<std::string_view> known;
      for (const Key<T>& key : keys) known.push_back(key.name);
      fail_unknown_key(entry, known);
    }
    seen.push_back(match->name);
    match->read(entry.value, out);
  }
  for (const Key<T>& key : keys) {
    if (!key.required) continue;
    if (std::find(seen.begin(), seen.end(), key.name) == seen.end()) {
      fail_missing_key(section, key.name);
    }
  }
}

// The one document of a file. `file` must outlive what is read. Throws ConfigError.
Field load_document(const std::string& file);

}  // namespace postern
