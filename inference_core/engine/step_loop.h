#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"
#include "inference_core/engine/sequence.h"
#include "inference_core/engine/token_rate.h"

namespace yangtuo {

// The engine: a queue of requests and cancellations in front, and behind it one thread that owns
// sequences, blocks and stage. Sinks are called on that thread with no lock held.
//
// Blocks are given back as soon as a sequence ends or is preempted, even while steps that use them
// are in flight. That is safe because every stage executes steps in submission order on its own
// memory: a later step that reuses a block cannot touch it before the earlier step has read it, and
// the earlier step's result for the ended sequence is dropped.
class StepLoop final : public Engine {
 public:
  StepLoop(const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
           std::function<void(const StepStats&)> observe_step);
  ~StepLoop() override;

  absl::StatusOr<SequenceId> Submit(EngineRequest request, SequenceSink* sink) override;
  void Cancel(SequenceId id) override;
  [[nodiscard]] EngineLoad load() const override;
  [[nodiscard]] const StageInfo& stage_info() const override { return info_; }
  void StopAccepting() override;
  bool WaitUntilIdle(TimePoint deadline) override;

 private:
  struct StepInFlight {
    std::uint64_t id;
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
  void TakeCommands();
  void ExpireDeadlines();
  void SubmitSteps();
  [[nodiscard]] StepPlan Plan() const;
  void Preempt(const std::vector<std::uint64_t>& ids);
  [[nodiscard]] Step MakeStep(const StepPlan& plan, StepInFlight& in_flight);
  void AddRows(const PlannedRows& planned, Step& step, StepInFlight& in_flight);
  void TakeResult();
  void HandleSample(const SequenceSample& sample);
  [[nodiscard]] absl::Status CheckResult(const StepResult& result, const StepInFlight& step) const;
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

  // More could not all decode in the steps in flight, and the last in line would starve.
  const std::int32_t max_running_;

  // Loop thread only.
  BlockPool pool_;
  std::map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::deque<StepInFlight> in_flight_;
  std::vector<SequenceId> closes_;  // for the head, with the next step
  std::uint64_t next_step_ = 1;
  std::int32_t preempted_since_step_ = 0;
  bool stage_lost_ = false;  // nothing can be submitted before a Reset succeeds
  std::string lost_reason_;
  // When the stage failed first since its last result. Not ended by a Reset that succeeds: a stage
  // that comes back only to fail again must not be tried without pause, nor for ever.
  std::optional<TimePoint> outage_since_;
  TimePoint next_attempt_;

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
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
  mutable TokenRate rate_ ABSL_GUARDED_BY(mutex_);

  std::jthread thread_;
};

}  // namespace yangtuo
