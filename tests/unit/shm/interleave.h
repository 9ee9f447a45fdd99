// A small model checker: runs two programs of atomic steps in every order that total store order
// allows. Each side's stores go through a buffer of its own, in order, and reach memory at any
// later time; a fence waits until the buffer is empty; loads see the own buffer first.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace postern::test {

inline constexpr size_t kWords = 12;  // of shared memory
inline constexpr size_t kLocals = 6;  // of each side
inline constexpr size_t kBuffer = 6;  // stores under way, each side

// Everything that makes two states different; compared bytewise.
struct State {
  std::array<uint8_t, kWords> memory{};
  struct Side {
    uint8_t pc = 0;
    std::array<uint8_t, kLocals> local{};
    uint8_t buffered = 0;
    std::array<std::pair<uint8_t, uint8_t>, kBuffer> buffer{};  // word, value
    auto operator<=>(const Side&) const = default;
  };
  std::array<Side, 2> side;
  auto operator<=>(const State&) const = default;
};

// One side's view of the machine while it makes one step.
class Machine {
 public:
  Machine(State& state, size_t side) : state_(state), side_(state.side[side]) {}
  [[nodiscard]] uint8_t load(uint8_t word) const {
    for (size_t i = side_.buffered; i-- > 0;) {
      if (side_.buffer[i].first == word) return side_.buffer[i].second;
    }
    return state_.memory[word];
  }
  void store(uint8_t word, uint8_t value) { side_.buffer.at(side_.buffered++) = {word, value}; }
  // System calls are ordered with everything.
  uint8_t& kernel(uint8_t word) { return state_.memory[word]; }
  [[nodiscard]] bool drained() const { return side_.buffered == 0; }
  // Of the other side: what a membarrier brings about.
  [[nodiscard]] bool other_drained() const {
    return state_.side[&side_ == &state_.side[0] ? 1 : 0].buffered == 0;
  }
  uint8_t& local(size_t i) { return side_.local[i]; }
  void jump(uint8_t pc) { side_.pc = pc; }

 private:
  State& state_;
  State::Side& side_;
};

// A step: does its work, moves pc on by one unless it jumps; false: cannot go on now (blocked).
using Step = std::function<bool(Machine&)>;
using Program = std::vector<Step>;

struct Result {
  size_t states = 0;
  std::string failure;  // empty: the property holds in every order
};

// `stuck` judges a state in which nobody can move: nullptr if that is the proper end, else what
// went wrong. `wrong` judges every state.
inline Result explore(const std::array<Program, 2>& programs,
                      const std::function<const char*(const State&)>& stuck,
                      const std::function<const char*(const State&)>& wrong) {
  std::set<State> seen;
  std::vector<State> todo{State{}};
  seen.insert(State{});
  Result result;
  const auto add = [&](const State& s) {
    if (seen.insert(s).second) todo.push_back(s);
  };
  while (!todo.empty()) {
    const State s = todo.back();
    todo.pop_back();
    if (const char* what = wrong(s)) return {seen.size(), what};
    bool moved = false;
    for (size_t i = 0; i < 2; ++i) {
      if (s.side[i].buffered != 0) {  // the oldest store reaches memory
        State next = s;
        State::Side& side = next.side[i];
        next.memory[side.buffer[0].first] = side.buffer[0].second;
        for (size_t k = 1; k < side.buffered; ++k) side.buffer[k - 1] = side.buffer[k];
        side.buffer[--side.buffered] = {};
        add(next);
        moved = true;
      }
      if (s.side[i].pc >= programs[i].size()) continue;
      State next = s;
      Machine machine(next, i);
      next.side[i].pc = static_cast<uint8_t>(s.side[i].pc + 1);
      if (!programs[i][s.side[i].pc](machine)) continue;
      add(next);
      moved = true;
    }
    if (!moved) {
      if (const char* what = stuck(s)) return {seen.size(), what};
    }
  }
  result.states = seen.size();
  return result;
}

}  // namespace postern::test
