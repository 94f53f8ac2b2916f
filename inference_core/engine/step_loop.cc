#include "inference_core/engine/step_loop.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/engine/request_check.h"

namespace yangtuo {
namespace {

constexpr Duration kLostPoll = std::chrono::milliseconds(20);

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
    std::function<void(const StepStats&)> observe_step) {
  YANGTUO_RETURN_IF_ERROR(CheckOptions(options, stage->info()));
  return std::make_unique<StepLoop>(options, std::move(stage), clock, std::move(observe_step));
}

StepLoop::StepLoop(const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
                   std::function<void(const StepStats&)> observe_step)
    : options_(options),
      stage_(std::move(stage)),
      info_(stage_->info()),
      clock_(clock),
      observe_step_(std::move(observe_step)),
      max_running_(static_cast<std::int32_t>(std::min<std::int64_t>(
          options.max_running, std::int64_t{options.step_tokens} * info_.depth))),
      pool_(info_.kv_blocks, info_.kv_block_size) {
  PublishLoad();
  thread_ = std::jthread([this] { Run(); });
}

StepLoop::~StepLoop() {
  {
    const MutexLock lock(mutex_);
    accepting_ = false;
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

absl::StatusOr<SequenceId> StepLoop::Submit(EngineRequest request, SequenceSink* sink) {
  YANGTUO_RETURN_IF_ERROR(CheckRequest(request, info_));
  request.sampling.end_ids = request.stop_ids;
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt_ids.size());
  const std::int32_t limit = TokenLimit(request, info_);
  SequenceId id = 0;
  {
    const MutexLock lock(mutex_);
    if (!accepting_) {
      return absl::UnavailableError("this worker is shutting down and takes no new requests");
    }
    if (!load_.stage_ok) {
      return absl::UnavailableError("a shard of this worker group is lost and being reconnected");
    }
    if (live_ >= options_.max_running + options_.max_waiting) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the queue is full: %d requests run or wait (max_running %d, "
                          "max_waiting %d)",
                          live_, options_.max_running, options_.max_waiting));
    }
    if (waiting_tokens_ > 0 && waiting_tokens_ + prompt_tokens > options_.max_waiting_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the queue is full: %d prompt tokens wait already (max_waiting_tokens "
                          "%d)",
                          waiting_tokens_, options_.max_waiting_tokens));
    }
    id = next_id_++;
    auto sequence = std::make_unique<Sequence>(id, std::move(request), sink, clock_.Now(), pool_);
    sequence->max_tokens = limit;
    submitted_.push_back(std::move(sequence));
    ++live_;
    ++unfinished_;
    ++load_.waiting;
    load_.pending_prompt_tokens += prompt_tokens;
    waiting_tokens_ += prompt_tokens;
  }
  wake_.NotifyOne();
  return id;
}

void StepLoop::Cancel(SequenceId id) {
  {
    const MutexLock lock(mutex_);
    cancelled_.push_back(id);
  }
  wake_.NotifyOne();
}

EngineLoad StepLoop::load() const {
  const MutexLock lock(mutex_);
  EngineLoad load = load_;
  load.tokens_per_second = rate_.PerSecond(clock_.Now());
  return load;
}

void StepLoop::StopAccepting() {
  const MutexLock lock(mutex_);
  accepting_ = false;
}

bool StepLoop::WaitUntilIdle(TimePoint deadline) {
  const MutexLock lock(mutex_);
  while (unfinished_ > 0) {
    if (!idle_.WaitUntil(mutex_, deadline) && std::chrono::steady_clock::now() >= deadline) {
      return unfinished_ == 0;
    }
  }
  return true;
}

void StepLoop::Run() {
  for (;;) {
    {
      const MutexLock lock(mutex_);
      if (stopping_) {
        break;
      }
    }
    TakeCommands();
    ExpireDeadlines();
    if (stage_lost_) {
      TryRecovery();
    }
    if (!stage_lost_) {
      SubmitSteps();
    }
    PublishLoad();
    if (!in_flight_.empty()) {
      TakeResult();
    } else if (sequences_.empty() || stage_lost_) {
      if (!stage_lost_) {
        outage_since_.reset();
      }
      WaitForWork();
    }  // Otherwise a stage failed and is back: plan again.
  }
  TakeCommands();
  FailAll(absl::CancelledError("the worker is shutting down"));
}

void StepLoop::TakeCommands() {
  std::vector<std::unique_ptr<Sequence>> submitted;
  std::vector<SequenceId> cancelled;
  {
    const MutexLock lock(mutex_);
    submitted.swap(submitted_);
    cancelled.swap(cancelled_);
  }
  for (std::unique_ptr<Sequence>& sequence : submitted) {
    const SequenceId id = sequence->id;
    sequences_.emplace(id, std::move(sequence));
    const Sequence& taken = *sequences_.at(id);
    if (taken.request.task == SequenceTask::kGenerate && taken.num_known() >= taken.max_tokens) {
      End(id, {.status = absl::OkStatus(), .reason = FinishReason::kLength});
    }
  }
  for (const SequenceId id : cancelled) {
    Fail(id, absl::CancelledError("the request was cancelled"));
  }
}

void StepLoop::ExpireDeadlines() {
  const TimePoint now = clock_.Now();
  std::vector<SequenceId> expired;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->request.deadline.has_value() && *sequence->request.deadline <= now) {
      expired.push_back(id);
    }
  }
  for (const SequenceId id : expired) {
    Fail(id, absl::DeadlineExceededError("the deadline passed before the answer was complete"));
  }
}

StepPlan StepLoop::Plan() const {
  std::vector<ScheduledSequence> running;
  std::vector<ScheduledSequence> waiting;
  for (const auto& [id, sequence] : sequences_) {
    (sequence->running ? running : waiting).push_back(sequence->Scheduled());
  }
  return PlanNextStep(std::move(running), std::move(waiting),
                      {.step_tokens = options_.step_tokens,
                       .prompt_chunk = options_.prompt_chunk,
                       .max_running = max_running_,
                       .depth = info_.depth,
                       .block_size = info_.kv_block_size,
                       .free_blocks = pool_.num_free()});
}

void StepLoop::SubmitSteps() {
  while (static_cast<std::int32_t>(in_flight_.size()) < info_.depth && !sequences_.empty()) {
    const StepPlan plan = Plan();
    if (plan.empty()) {
      return;
    }
    Preempt(plan.preempt);
    StepInFlight in_flight{.id = next_step_, .submitted = clock_.Now(), .stats = {}, .parts = {}};
    Step step = MakeStep(plan, in_flight);
    ++next_step_;
    if (const absl::Status status = stage_->Submit(std::move(step)); !status.ok()) {
      HandleStageError(status, in_flight.parts);
      return;
    }
    in_flight_.push_back(std::move(in_flight));
  }
}

void StepLoop::Preempt(const std::vector<std::uint64_t>& ids) {
  for (const std::uint64_t id : ids) {
    Sequence& sequence = *sequences_.at(id);
    // The close travels with the step that preempts, so it is never behind a later open.
    if (sequence.open) {
      closes_.push_back(id);
    }
    sequence.Rewind();
    ++preempted_since_step_;
  }
}

Step StepLoop::MakeStep(const StepPlan& plan, StepInFlight& in_flight) {
  Step step;
  step.id = in_flight.id;
  step.closes = std::exchange(closes_, {});
  for (const std::vector<PlannedRows>* rows : {&plan.decode, &plan.prompt}) {
    for (const PlannedRows& planned : *rows) {
      AddRows(planned, step, in_flight);
    }
  }
  in_flight.stats.decode_rows = static_cast<std::int32_t>(plan.decode.size());
  in_flight.stats.prompt_rows =
      static_cast<std::int32_t>(step.num_tokens()) - in_flight.stats.decode_rows;
  in_flight.stats.sequences = static_cast<std::int32_t>(step.rows.size());
  in_flight.stats.preempted = std::exchange(preempted_since_step_, 0);
  return step;
}

void StepLoop::AddRows(const PlannedRows& planned, Step& step, StepInFlight& in_flight) {
  Sequence& sequence = *sequences_.at(planned.id);
  sequence.running = true;
  if (!sequence.started.has_value()) {
    sequence.started = in_flight.submitted;
    const MutexLock lock(mutex_);
    waiting_tokens_ -= sequence.num_prompt();
  }
  if (!sequence.open) {
    sequence.open = true;
    step.opens.push_back(
        {.id = sequence.id,
         .task = sequence.request.task,
         .prompt_ids = sequence.request.prompt_ids,
         .emitted_ids = {sequence.known.begin() + sequence.num_prompt(), sequence.known.end()},
         .sampling = sequence.request.sampling,
         .prompt_logprobs = sequence.request.prompt_logprobs});
  }
  const std::int32_t first = sequence.computed;
  const std::int32_t end = first + planned.tokens;
  // The plan counted the free blocks, so there are enough.
  [[maybe_unused]] const bool grown = sequence.blocks.GrowTo(end);
  assert(grown);
  sequence.computed = end;
  ++sequence.steps_in_flight;
  const bool wants_output = end == sequence.num_known();
  const auto table = sequence.blocks.table();
  step.rows.push_back({.id = sequence.id,
                       .first_position = first,
                       .token_ids = {sequence.known.begin() + first, sequence.known.begin() + end},
                       .kv_blocks = {table.begin(), table.end()},
                       .want_output = wants_output});
  in_flight.parts.push_back({.id = sequence.id, .wants_output = wants_output});
}

void StepLoop::End(SequenceId id, const SequenceOutcome& outcome) {
  const auto node = sequences_.extract(id);
  if (node.empty()) {
    return;
  }
  Sequence& sequence = *node.mapped();
  if (sequence.open) {
    closes_.push_back(id);
  }
  sequence.blocks.Release();
  SequenceOutcome told = outcome;
  told.generated_tokens = sequence.generated;
  told.queue = sequence.started.value_or(clock_.Now()) - sequence.submitted;
  {
    const MutexLock lock(mutex_);
    --live_;
    if (!sequence.started.has_value()) {
      waiting_tokens_ -= sequence.num_prompt();
    }
  }
  // What an observer sees after OnFinished must not count this sequence any more.
  PublishLoad();
  sequence.sink->OnFinished(told);
  const MutexLock lock(mutex_);
  if (--unfinished_ == 0) {
    idle_.NotifyAll();
  }
}

void StepLoop::Fail(SequenceId id, const absl::Status& status) { End(id, {.status = status}); }

void StepLoop::FailAll(const absl::Status& status) {
  while (!sequences_.empty()) {
    Fail(sequences_.begin()->first, status);
  }
}

void StepLoop::WaitForWork() {
  // While the stage is lost, the loop looks after deadlines and the next attempt.
  const TimePoint wake =
      std::chrono::steady_clock::now() + std::min<Duration>(options_.recovery_pause, kLostPoll);
  const MutexLock lock(mutex_);
  while (submitted_.empty() && cancelled_.empty() && !stopping_) {
    if (!stage_lost_) {
      wake_.Wait(mutex_);
    } else if (!wake_.WaitUntil(mutex_, wake)) {
      return;
    }
  }
}

void StepLoop::PublishLoad() {
  EngineLoad load;
  load.kv_blocks_total = pool_.num_blocks();
  load.kv_blocks_free = pool_.num_free();
  load.stage_ok = !stage_lost_;
  for (const auto& [id, sequence] : sequences_) {
    ++(sequence->running ? load.running : load.waiting);
    load.pending_prompt_tokens += std::max(sequence->num_prompt() - sequence->computed, 0);
  }
  const MutexLock lock(mutex_);
  for (const auto& sequence : submitted_) {
    ++load.waiting;
    load.pending_prompt_tokens += sequence->num_prompt();
  }
  load_ = load;
}

}  // namespace yangtuo
