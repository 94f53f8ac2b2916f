#include "inference_core/scheduler/scheduler.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace yangtuo {
namespace {

bool GoesBefore(const ScheduledSequence& a, const ScheduledSequence& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.id < b.id;
}

bool StartsBefore(const ScheduledSequence& a, const ScheduledSequence& b) {
  if (a.priority != b.priority) {
    return a.priority > b.priority;
  }
  if (a.preempted != b.preempted) {
    return a.preempted;
  }
  if (!a.preempted && a.tenant_served != b.tenant_served) {
    return a.tenant_served < b.tenant_served;
  }
  return a.id < b.id;
}

bool AwaitsToken(const ScheduledSequence& s) { return s.computed_tokens == s.known_tokens; }

bool IsDecoding(const ScheduledSequence& s) {
  return s.computed_tokens > 0 && s.known_tokens - s.computed_tokens <= 1;
}

std::int32_t CeilDivide(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }

// One plan in the making.
class Planner {
 public:
  Planner(PlanInput& input, StepPlan& plan)
      : running_(input.running),
        waiting_(input.waiting),
        limits_(input.limits),
        find_reusable_(input.find_reusable),
        tokens_left_(limits_.step_tokens),
        prompt_left_(limits_.step_tokens),
        free_blocks_(limits_.free_blocks),
        plan_(plan) {
    std::sort(running_.begin(), running_.end(), GoesBefore);
    decoding_ =
        static_cast<std::int32_t>(std::count_if(running_.begin(), running_.end(), IsDecoding));
    if (decoding_ > 0) {
      prompt_left_ = limits_.prompt_tokens;
    }
  }

  void AddDecodeRows() {
    const bool prompts =
        decoding_ < static_cast<std::int32_t>(running_.size()) || !waiting_.empty();
    const std::int32_t most = tokens_left_ - (prompts ? limits_.prompt_reserve : 0);
    std::int32_t share = std::min(CeilDivide(decoding_, limits_.depth), most);
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
    for (std::size_t i = 0; i < running_.size() && prompt_rows_left() > 0; ++i) {
      ScheduledSequence& s = running_[i];
      if (!IsDecoding(s) && !AwaitsToken(s) && MakeRoom(i)) {
        AddChunk(s);
      }
    }
  }

  void Admit() {
    // Somebody just lost his blocks for lack of them: not the time to start another.
    if (!plan_.preempt.empty()) {
      return;
    }
    while (!waiting_.empty() && prompt_rows_left() > 0) {
      const auto first = std::min_element(waiting_.begin(), waiting_.end(), StartsBefore);
      const ScheduledSequence s = *first;
      if (s.steps_in_flight > 0) {
        return;
      }
      Reusable reusable = FindReusable(s, plan_.preempt);
      if (!IsBeingFilled(reusable.next_block)) {
        if (!MakePlace(s, reusable)) {
          return;
        }
        Start(s, reusable);
      }
      *first = waiting_.back();
      waiting_.pop_back();
    }
  }

 private:
  [[nodiscard]] std::int32_t prompt_rows_left() const {
    return std::min(tokens_left_, prompt_left_);
  }

  // Positions that fit without another block being freed.
  [[nodiscard]] std::int64_t Room(const ScheduledSequence& s) const {
    return (std::int64_t{s.blocks} + free_blocks_) * limits_.block_size - s.computed_tokens;
  }

  // Makes room for one position of a running sequence at least, at the cost of those behind it.
  bool MakeRoom(std::size_t index) {
    while (Room(running_[index]) < 1 && running_.size() > index + 1) {
      PreemptLast();
    }
    return Room(running_[index]) >= 1;
  }

  void PreemptLast() {
    const ScheduledSequence victim = running_.back();
    running_.pop_back();
    free_blocks_ += victim.blocks - victim.shared_blocks;
    // An older prompt may take the place of rows that were planned a moment ago.
    const auto is_victim = [&](const PlannedRows& rows) { return rows.id == victim.id; };
    tokens_left_ += static_cast<std::int32_t>(std::erase_if(plan_.decode, is_victim));
    for (const PlannedRows& rows : plan_.prompt) {
      if (is_victim(rows)) {
        tokens_left_ += rows.tokens;
        prompt_left_ += rows.tokens;
      }
    }
    std::erase_if(plan_.prompt, is_victim);
    plan_.preempt.push_back(victim.id);
  }

  void AddChunk(ScheduledSequence& s) {
    const std::int32_t chunk = limits_.prompt_chunk > 0 ? limits_.prompt_chunk : tokens_left_;
    const std::int32_t rows = static_cast<std::int32_t>(std::min<std::int64_t>(
        Room(s), std::min({s.known_tokens - s.computed_tokens, chunk, prompt_rows_left()})));
    Take(s, rows);
    prompt_left_ -= rows;
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

  [[nodiscard]] bool IsBeingFilled(std::uint64_t block) const {
    return block != 0 &&
           std::any_of(running_.begin(), running_.end(),
                       [block](const ScheduledSequence& s) { return s.next_block == block; });
  }

  // Blocks that running sequences may still need before a new one gets any.
  [[nodiscard]] std::int32_t Promised(const ScheduledSequence& r) const {
    return std::max(CeilDivide(r.known_tokens, limits_.block_size) - r.blocks, 0) + 1;
  }

  // Free blocks that a waiting sequence takes over time to compute what it knows.
  [[nodiscard]] std::int32_t Needed(const ScheduledSequence& s, const Reusable& reusable) const {
    return CeilDivide(s.known_tokens, limits_.block_size) - reusable.tokens / limits_.block_size +
           reusable.free_blocks;
  }

  [[nodiscard]] Reusable FindReusable(const ScheduledSequence& s,
                                      std::span<const std::uint64_t> preempted) const {
    return find_reusable_ ? find_reusable_(s.id, preempted) : Reusable{};
  }

  // Finds a place for the first in line among the running, at the cost of lower priorities if need
  // be, but only if that is enough. At the cost of rows that were planned for them a moment ago,
  // too. `reusable` is then what the sequence can use without them: what it finds of their blocks
  // is not free for anything else.
  bool MakePlace(const ScheduledSequence& s, Reusable& reusable) {
    std::int32_t left = free_blocks_ - Needed(s, reusable);
    for (const ScheduledSequence& r : running_) {
      left -= Promised(r);
    }
    std::size_t kept = running_.size();
    std::vector<std::uint64_t> preempted;
    while (left < 0 || kept >= static_cast<std::size_t>(limits_.max_running)) {
      if (kept == 0 || running_[kept - 1].priority >= s.priority) {
        return false;
      }
      if (preempted.empty()) {
        preempted = plan_.preempt;
      }
      const ScheduledSequence& victim = running_[--kept];
      preempted.push_back(victim.id);
      left += victim.blocks - victim.shared_blocks + Promised(victim);
      // Only when it would be enough at best: the question costs more than the sums.
      if (left >= 0) {
        left += Needed(s, reusable);
        reusable = FindReusable(s, preempted);
        left -= Needed(s, reusable);
      }
    }
    while (running_.size() > kept) {
      PreemptLast();
    }
    return true;
  }

  void Start(ScheduledSequence s, const Reusable& reusable) {
    s.computed_tokens = reusable.tokens;
    s.blocks = reusable.tokens / limits_.block_size;
    s.shared_blocks = s.blocks;
    s.next_block = reusable.next_block;
    free_blocks_ -= reusable.free_blocks;
    for (ScheduledSequence& other : waiting_) {
      if (other.tenant == s.tenant) {
        other.tenant_served += static_cast<double>(s.known_tokens - reusable.tokens);
      }
    }
    AddChunk(s);
    running_.insert(std::upper_bound(running_.begin(), running_.end(), s, GoesBefore), s);
  }

  std::vector<ScheduledSequence>& running_;  // first in line first; without the preempted
  std::vector<ScheduledSequence>& waiting_;
  const PlanLimits& limits_;
  const std::function<Reusable(std::uint64_t, std::span<const std::uint64_t>)>& find_reusable_;
  std::int32_t decoding_ = 0;
  std::int32_t tokens_left_;
  std::int32_t prompt_left_;
  std::int32_t free_blocks_;
  StepPlan& plan_;
};

}  // namespace

void PlanNextStep(PlanInput& input, StepPlan& plan) {
  plan.preempt.clear();
  plan.decode.clear();
  plan.prompt.clear();
  Planner planner(input, plan);
  planner.AddDecodeRows();
  planner.AddPromptRows();
  planner.Admit();
}

StepPlan PlanNextStep(std::vector<ScheduledSequence> running,
                      std::vector<ScheduledSequence> waiting, const PlanLimits& limits) {
  PlanInput input{.running = std::move(running),
                  .waiting = std::move(waiting),
                  .limits = limits,
                  .find_reusable = {}};
  StepPlan plan;
  PlanNextStep(input, plan);
  return plan;
}

}  // namespace yangtuo
