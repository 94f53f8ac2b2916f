#include "inference_core/grammar/simulator.h"

#include <utility>

#include "absl/container/flat_hash_set.h"

namespace yangtuo {
namespace {

// States looked at between two bytes; far beyond what a grammar for people needs.
constexpr std::int64_t kVisits = 8192;
// A new place's share of work(): its row of steps is cleared, and it is hashed.
constexpr std::int64_t kWorkOfPlace = 8;

}  // namespace

Simulator::Simulator(const Automaton& automaton)
    : automaton_(automaton),
      byte_class_(automaton.byte_class),
      num_classes_(static_cast<std::size_t>(automaton.num_classes)) {}

std::int32_t Simulator::Start() {
  return Close({Thread{.state = automaton_.start, .stack = kEmptyStack}});
}

std::int32_t Simulator::Enter(const Place& place) {
  Stop stop{.threads = {}, .complete = place.complete};
  for (std::size_t i = 0; i < place.threads.size();) {
    Thread thread{.state = place.threads[i], .stack = kEmptyStack};
    const auto callers = static_cast<std::size_t>(place.threads[i + 1]);
    i += 2 + callers;
    for (std::size_t back = 1; back <= callers; ++back) {  // the outermost first
      thread.stack = Push(place.threads[i - back], thread.stack);
    }
    stop.threads.push_back(thread);
  }
  return Number(std::move(stop));
}

Place Simulator::Leave(std::int32_t place) const {
  const Stop& stop = places_[static_cast<std::size_t>(place)];
  Place left{.threads = {}, .complete = stop.complete};
  for (const Thread& thread : stop.threads) {
    left.threads.push_back(thread.state);
    left.threads.push_back(Depth(thread.stack));
    for (std::int32_t frame = thread.stack; frame != kEmptyStack;
         frame = frames_[static_cast<std::size_t>(frame)].caller) {
      left.threads.push_back(frames_[static_cast<std::size_t>(frame)].return_state);
    }
  }
  return left;
}

std::int32_t Simulator::FindStep(std::int32_t place, std::uint8_t byte_class) {
  std::vector<Thread> moved;
  for (const Thread& thread : places_[static_cast<std::size_t>(place)].threads) {
    const std::int32_t state = automaton_.Row(thread.state)[byte_class];
    if (state != Automaton::kNone &&
        automaton_.DepthNeed(state) <= automaton_.max_depth - Depth(thread.stack)) {
      moved.push_back({.state = state, .stack = thread.stack});
    }
  }
  const std::int32_t next = moved.empty() ? kDead : Close(std::move(moved));
  next_[static_cast<std::size_t>(place) * num_classes_ + byte_class] = next;
  return next;
}

std::int32_t Simulator::Close(std::vector<Thread> moved) {
  Stop stop;
  if (moved.size() == 1 && automaton_.CallsOf(moved[0].state).empty() &&
      (!automaton_.Accepts(moved[0].state) || moved[0].stack == kEmptyStack)) {
    stop.complete = automaton_.Accepts(moved[0].state);
    if (automaton_.Moves(moved[0].state)) {
      stop.threads = std::move(moved);
    }
    return Number(std::move(stop));
  }
  struct Visit {
    Thread thread = {};
    bool called = false;  // just now: the caller passes over what matches the empty text
  };
  std::vector<Visit> open;
  // The last is taken first: every way is followed down to a byte before the next is begun, so
  // that those that are cut off are the last ones.
  for (std::size_t i = moved.size(); i-- > 0;) {
    open.push_back({.thread = moved[i]});
  }
  absl::flat_hash_set<Thread> seen;
  absl::flat_hash_set<Thread> returned;
  std::int64_t visits = 0;
  for (; !open.empty() && visits < kVisits && stop.threads.size() < kThreads; ++visits) {
    const auto [thread, called] = open.back();
    open.pop_back();
    if (automaton_.Accepts(thread.state)) {
      if (thread.stack == kEmptyStack) {
        stop.complete = true;
      } else if (!called && returned.insert(thread).second) {
        const Frame frame = frames_[static_cast<std::size_t>(thread.stack)];
        open.push_back({.thread = {.state = frame.return_state, .stack = frame.caller}});
      }
    }
    if (!seen.insert(thread).second) {
      continue;
    }
    if (automaton_.Moves(thread.state)) {
      stop.threads.push_back(thread);
    }
    const std::int32_t left = automaton_.max_depth - Depth(thread.stack);
    for (const Automaton::Call& call : automaton_.CallsOf(thread.state)) {
      const std::int32_t left_inside = call.is_last ? left : left - 1;
      if (automaton_.DepthNeed(call.target) <= left &&
          automaton_.DepthNeed(call.start) <= left_inside) {
        const std::int32_t stack = call.is_last ? thread.stack : Push(call.target, thread.stack);
        open.push_back({.thread = {.state = call.start, .stack = stack}, .called = true});
      }
    }
  }
  work_ += visits;
  // All ways that were followed up to the limit lead nowhere: no text comes to here.
  if (stop.threads.empty() && !stop.complete) {
    return kDead;
  }
  return Number(std::move(stop));
}

std::int32_t Simulator::Number(Stop stop) {
  const auto number = static_cast<std::int32_t>(places_.size());
  const auto [entry, is_new] = numbers_.try_emplace(stop, number);
  if (is_new) {
    work_ += kWorkOfPlace + static_cast<std::int64_t>(stop.threads.size());
    places_.push_back(std::move(stop));
    next_.resize(next_.size() + num_classes_, kUnknown);
  }
  return entry->second;
}

std::int32_t Simulator::Push(std::int32_t return_state, std::int32_t stack) {
  const auto number = static_cast<std::int32_t>(frames_.size());
  const auto [entry, is_new] = frame_numbers_.try_emplace({return_state, stack}, number);
  if (is_new) {
    frames_.push_back({.return_state = return_state, .caller = stack, .depth = Depth(stack) + 1});
  }
  return entry->second;
}

}  // namespace yangtuo
