#include "inference_core/scheduler/scheduler.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace yangtuo {
namespace {

bool GoesBefore(const ScheduledSequence& a, const ScheduledSequence& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.id < b.id;
}

bool AwaitsToken(const ScheduledSequence& s) { return s.computed_tokens == s.known_tokens; }

bool IsDecoding(const ScheduledSequence& s) {
  return s.computed_tokens > 0 && s.known_tokens - s.computed_tokens <= 1;
}

std::int32_t CeilDivide(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }

// One plan in the making.
class Planner {
 public:
  Planner(std::vector<ScheduledSequence> running, const StepLimits& limits)
      : running_(std::move(running)),
        limits_(limits),
        tokens_left_(limits.step_tokens),
        free_blocks_(limits.free_blocks) {
    std::sort(running_.begin(), running_.end(), GoesBefore);
  }

  void AddDecodeRows() {
    const auto decoding =
        static_cast<std::int32_t>(std::count_if(running_.begin(), running_.end(), IsDecoding));
    std::int32_t share = std::min(CeilDivide(decoding, limits_.depth), tokens_left_);
    // Preempting shortens the list behind the current sequence.
    for (std::size_t i = 0; i < running_.size() && share > 0; ++i) {
      ScheduledSequence& s = running_[i];
      if (!IsDecoding(s) || AwaitsToken(s) || !MakeRoom(i)) {
        continue;
      }
      Take(s, 1);
      plan_.decode.push_back({.id = s.id, .tokens = 1});
      --share;
    }
  }

  void AddPromptRows() {
    for (std::size_t i = 0; i < running_.size() && tokens_left_ > 0; ++i) {
      ScheduledSequence& s = running_[i];
      if (!IsDecoding(s) && !AwaitsToken(s) && MakeRoom(i)) {
        AddChunk(s);
      }
    }
  }

  void Admit(std::vector<ScheduledSequence> waiting) {
    // Somebody just lost his blocks for lack of them: not the time to start another.
    if (!plan_.preempt.empty()) {
      return;
    }
    std::sort(waiting.begin(), waiting.end(), GoesBefore);
    for (const ScheduledSequence& s : waiting) {
      const bool full = static_cast<std::int32_t>(running_.size()) >= limits_.max_running;
      if (full || tokens_left_ <= 0 || s.steps_in_flight > 0 || !FitsBesideRunning(s)) {
        return;
      }
      running_.push_back(s);
      AddChunk(running_.back());
    }
  }

  StepPlan Finish() && { return std::move(plan_); }

 private:
  // Positions that fit without another block being freed.
  [[nodiscard]] std::int64_t Room(const ScheduledSequence& s) const {
    return (std::int64_t{s.blocks} + free_blocks_) * limits_.block_size - s.computed_tokens;
  }

  // Makes room for one position of a running sequence at least, at the cost of those behind it.
  bool MakeRoom(std::size_t index) {
    while (Room(running_[index]) < 1 && running_.size() > index + 1) {
      const ScheduledSequence victim = running_.back();
      running_.pop_back();
      free_blocks_ += victim.blocks;
      // An older prompt may take the place of a decode row that was planned a moment ago.
      const auto is_victim = [&](const PlannedRows& rows) { return rows.id == victim.id; };
      tokens_left_ += static_cast<std::int32_t>(std::erase_if(plan_.decode, is_victim));
      plan_.preempt.push_back(victim.id);
    }
    return Room(running_[index]) >= 1;
  }

  void AddChunk(ScheduledSequence& s) {
    const std::int32_t chunk = limits_.prompt_chunk > 0 ? limits_.prompt_chunk : tokens_left_;
    const std::int32_t rows = static_cast<std::int32_t>(std::min<std::int64_t>(
        Room(s), std::min({s.known_tokens - s.computed_tokens, chunk, tokens_left_})));
    Take(s, rows);
    plan_.prompt.push_back({.id = s.id, .tokens = rows});
  }

  void Take(ScheduledSequence& s, std::int32_t tokens) {
    s.computed_tokens += tokens;
    const std::int32_t blocks =
        std::max(CeilDivide(s.computed_tokens, limits_.block_size) - s.blocks, 0);
    s.blocks += blocks;
    free_blocks_ -= blocks;
    tokens_left_ -= tokens;
  }

  [[nodiscard]] bool FitsBesideRunning(const ScheduledSequence& s) const {
    std::int32_t promised = 0;
    for (const ScheduledSequence& r : running_) {
      promised += std::max(CeilDivide(r.known_tokens, limits_.block_size) - r.blocks, 0) + 1;
    }
    return CeilDivide(s.known_tokens, limits_.block_size) <= free_blocks_ - promised;
  }

  std::vector<ScheduledSequence> running_;  // first in line first; without the preempted
  const StepLimits& limits_;
  std::int32_t tokens_left_;
  std::int32_t free_blocks_;
  StepPlan plan_;
};

}  // namespace

StepPlan PlanNextStep(std::vector<ScheduledSequence> running,
                      std::vector<ScheduledSequence> waiting, const StepLimits& limits) {
  Planner planner(std::move(running), limits);
  planner.AddDecodeRows();
  planner.AddPromptRows();
  planner.Admit(std::move(waiting));
  return std::move(planner).Finish();
}

}  // namespace yangtuo
