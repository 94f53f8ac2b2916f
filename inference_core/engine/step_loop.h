#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"
#include "inference_core/engine/load_board.h"
#include "inference_core/engine/sequence.h"
#include "inference_core/engine/token_rate.h"
#include "inference_core/kv_cache/block_key.h"
#include "inference_core/scheduler/scheduler.h"
#include "inference_core/scheduler/step_cost.h"
#include "inference_core/scheduler/tenant_ledger.h"

namespace yangtuo {

// The engine: a queue of requests and cancellations in front, and behind it one thread that owns
// sequences, blocks and stage. Sinks are called on that thread with no lock held.
//
// Blocks are given back as soon as a sequence ends or is preempted, even while steps that use them
// are in flight. That is safe because every stage executes steps in submission order on its own
// memory: a later step that reuses a block cannot touch it before the earlier step has read it, and
// the earlier step's result for the ended sequence is dropped.
//
// For the same reason a block can be found by others as soon as the step that fills it is
// submitted. When a step fails, nothing is found any more: its blocks may not be what their keys
// say. When one sequence of a step fails, that holds for its blocks.
//
// A step of sequences that decode takes no lock and no system call here, and no memory but what
// OpenSSL takes for the key of a block that was filled; what stage and sinks take is theirs.
class StepLoop final : public Engine {
 public:
  StepLoop(const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
           std::function<void(const StepStats&)> observe_step);
  ~StepLoop() override;

  absl::StatusOr<SequenceId> Submit(EngineRequest request, SequenceSink* sink) override;
  void Cancel(SequenceId id) override;
  [[nodiscard]] EngineLoad load() const override;
  [[nodiscard]] const StageInfo& stage_info() const override { return info_; }
  [[nodiscard]] const std::optional<PrefixScheme>& prefix_scheme() const override {
    return prefix_scheme_;
  }
  void StopAccepting() override;
  bool WaitUntilIdle(TimePoint deadline) override;

 private:
  struct StepInFlight {
    std::uint64_t id = 0;
    TimePoint submitted;
    StepStats stats;
    // Sequence and positions of every row run; an output is due for those with `wants_output`.
    struct Part {
      SequenceId id;
      bool wants_output;
    };
    std::vector<Part> parts;
  };

  void Run();
  // False when the loop must end.
  bool TakeCommands();
  void ExpireDeadlines();
  void SubmitSteps();
  // Decides the next step into plan_.
  void Plan();
  [[nodiscard]] std::int32_t PromptRowsOfStep() const;
  // Whether the next plan could take blocks away: only then it matters who shares which.
  [[nodiscard]] bool MayPreempt() const;
  enum class Sharing { kCount, kIgnore };
  [[nodiscard]] ScheduledSequence Describe(const Sequence& sequence, Sharing sharing) const;
  [[nodiscard]] Reusable FindReusable(SequenceId id, std::span<const SequenceId> preempted) const;
  // Whether its blocks can be found by others. Those of embeddings would only take the place of
  // useful ones: no embedding finds any, and no prompt is likely to begin like one.
  [[nodiscard]] bool SharesBlocks(const Sequence& sequence) const;
  [[nodiscard]] std::span<const BlockKey> ReusableKeys(const Sequence& sequence) const;
  void Preempt(const std::vector<std::uint64_t>& ids);
  [[nodiscard]] Step MakeStep(StepInFlight& in_flight);
  void Begin(Sequence& sequence, StepInFlight& in_flight);
  // Fills `rows`, which may be those of an earlier step. False when there are no blocks for them,
  // in spite of the plan: then nothing happened.
  [[nodiscard]] bool AddRows(const PlannedRows& planned, StepRows& rows, Step& step,
                             StepInFlight& in_flight);
  void PublishBlocks(Sequence& sequence, std::int32_t first, std::int32_t end);
  void TakeResult();
  void HandleSample(SequenceSample& sample);
  void HandleFailure(const SequenceFailure& failure);
  [[nodiscard]] absl::Status CheckResult(const StepResult& result, const StepInFlight& step);
  void HandleResult(StepResult& result);
  void HandleStageError(const absl::Status& status, const std::vector<StepInFlight::Part>& parts);
  void TryRecovery();
  void End(SequenceId id, const SequenceOutcome& outcome);
  void Fail(SequenceId id, const absl::Status& status);
  void FailAll(const absl::Status& status);
  void WaitForWork();
  void PublishLoad();

  const EngineOptions options_;
  const std::unique_ptr<Stage> stage_;
  const StageInfo info_;
  const Clock& clock_;
  const std::function<void(const StepStats&)> observe_step_;

  // Rows that decoding leaves to prompts. More running sequences than then fit into the steps in
  // flight could not all decode, and the last in line would starve.
  const std::int32_t prompt_reserve_;
  const std::int32_t max_running_;
  const std::optional<PrefixScheme> prefix_scheme_;

  // Loop thread only.
  BlockPool pool_;
  BlockKeyHasher hasher_;
  TenantLedger tenants_;
  StepCost cost_;
  std::map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::vector<StepInFlight> in_flight_;  // oldest first; no more than stages
  std::vector<SequenceId> closes_;       // for the head, with the next step
  // Kept from step to step for their memory.
  PlanInput plan_input_;
  StepPlan plan_;
  std::vector<StepInFlight> spare_in_flight_;
  std::vector<std::vector<StepRows>> spare_rows_;
  std::vector<SequenceId> answered_;
  std::vector<SequenceId> wanted_;
  std::vector<SequenceId> expired_;
  std::int64_t evictions_reported_ = 0;
  std::uint64_t next_step_ = 1;
  std::int32_t preempted_since_step_ = 0;
  bool stage_lost_ = false;  // nothing can be submitted before a Reset succeeds
  std::string lost_reason_;
  // When the stage failed first since its last result. Not ended by a Reset that succeeds: a stage
  // that comes back only to fail again must not be tried without pause, nor for ever.
  std::optional<TimePoint> outage_since_;
  TimePoint next_attempt_;

  LoadBoard board_;
  TokenRate rate_;

  mutable Mutex mutex_;
  CondVar wake_;
  CondVar idle_;
  std::vector<std::unique_ptr<Sequence>> submitted_ ABSL_GUARDED_BY(mutex_);
  std::vector<SequenceId> cancelled_ ABSL_GUARDED_BY(mutex_);
  SequenceId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::int32_t live_ ABSL_GUARDED_BY(mutex_) = 0;            // accepted, not yet ended
  std::int32_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;      // OnFinished has not returned
  std::int64_t waiting_tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // prompts of those never started
  bool accepting_ ABSL_GUARDED_BY(mutex_) = true;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Whether there is anything to take from behind the lock.
  std::atomic<bool> has_commands_ = false;

  std::jthread thread_;
};

}  // namespace yangtuo
