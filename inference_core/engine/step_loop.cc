#include "inference_core/engine/step_loop.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_format.h"

namespace yangtuo {

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
    std::function<void(const StepStats&)> observe_step) {
  const StageInfo& info = stage->info();
  if (options.step_tokens < 1 || options.step_tokens > info.max_step_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step_tokens is %d; the stage takes 1..%d rows a step", options.step_tokens,
                        info.max_step_tokens));
  }
  if (options.prompt_chunk < 0 || options.max_running < 1 || options.max_waiting < 0 ||
      options.max_waiting_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "engine limits: prompt_chunk %d, max_running %d, max_waiting %d, max_waiting_tokens %d; "
        "max_running must be positive, the others not negative",
        options.prompt_chunk, options.max_running, options.max_waiting,
        options.max_waiting_tokens));
  }
  return std::make_unique<StepLoop>(options, std::move(stage), clock, std::move(observe_step));
}

StepLoop::StepLoop(const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
                   std::function<void(const StepStats&)> observe_step)
    : options_(options),
      stage_(std::move(stage)),
      info_(stage_->info()),
      clock_(clock),
      observe_step_(std::move(observe_step)),
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

std::int32_t StepLoop::TokenLimit(const EngineRequest& request) const {
  // The last token of an answer is never computed itself, so it needs no place in a block.
  const std::int64_t kv_positions = std::int64_t{info_.kv_blocks} * info_.kv_block_size + 1;
  std::int64_t limit = std::min<std::int64_t>(info_.context_tokens, kv_positions);
  if (request.max_new_tokens.has_value()) {
    limit = std::min<std::int64_t>(
        limit, static_cast<std::int64_t>(request.prompt_ids.size()) + *request.max_new_tokens);
  }
  return static_cast<std::int32_t>(limit);
}

absl::Status StepLoop::CheckRequest(const EngineRequest& request) const {
  if (request.prompt_ids.empty()) {
    return absl::InvalidArgumentError("the prompt has no tokens; it needs at least one");
  }
  for (const std::vector<TokenId>* ids : {&request.prompt_ids, &request.resumed_ids}) {
    for (const TokenId id : *ids) {
      if (id < 0 || id >= info_.vocab) {
        return absl::InvalidArgumentError(
            absl::StrFormat("token id %d is outside the vocabulary of %d tokens", id, info_.vocab));
      }
    }
  }
  const std::size_t known = request.prompt_ids.size() + request.resumed_ids.size();
  const std::int64_t kv_positions = std::int64_t{info_.kv_blocks} * info_.kv_block_size;
  // An embedding needs a place for every position, an answer room for one more token.
  const std::size_t wanted = known + (request.task == SequenceTask::kGenerate ? 1 : 0);
  if (wanted > static_cast<std::size_t>(info_.context_tokens)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the prompt has %d tokens; the context holds %d, the answer included",
                        known, info_.context_tokens));
  }
  if (static_cast<std::int64_t>(known) > kv_positions) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the prompt has %d tokens; the KV cache of this worker holds %d", known, kv_positions));
  }
  return absl::OkStatus();
}

absl::StatusOr<SequenceId> StepLoop::Submit(EngineRequest request, SequenceSink* sink) {
  if (absl::Status checked = CheckRequest(request); !checked.ok()) {
    return checked;
  }
  request.sampling.end_ids = request.stop_ids;
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt_ids.size());
  const std::int32_t limit = TokenLimit(request);
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
    ++load_.waiting;
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
  while (live_ > 0) {
    if (!idle_.WaitUntil(mutex_, deadline) && live_ > 0) {
      return false;
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
    if (lost_since_.has_value()) {
      TryRecovery();
    }
    if (!lost_since_.has_value()) {
      SubmitSteps();
    }
    PublishLoad();
    if (!in_flight_.empty()) {
      TakeResult();
    } else if (sequences_.empty() || lost_since_.has_value()) {
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
                       .max_running = options_.max_running,
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
    // A reopened sequence must not be closed by an older close that this step carries.
    std::erase(step.closes, sequence.id);
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

void StepLoop::TakeResult() {
  const TimePoint asked = clock_.Now();
  absl::StatusOr<StepResult> result = stage_->Next();
  const TimePoint now = clock_.Now();
  if (!result.ok()) {
    const std::vector<StepInFlight::Part> parts = in_flight_.front().parts;
    HandleStageError(result.status(), parts);
    return;
  }
  StepInFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  for (const StepInFlight::Part& part : done.parts) {
    if (const auto found = sequences_.find(part.id); found != sequences_.end()) {
      --found->second->steps_in_flight;
    }
  }
  done.stats.compute = result->compute;
  done.stats.wait = now - asked;
  done.stats.total = now - done.submitted;
  HandleResult(*result);
  if (observe_step_) {
    observe_step_(done.stats);
  }
}

void StepLoop::HandleResult(StepResult& result) {
  for (const PromptLogprobs& part : result.prompt_logprobs) {
    const auto found = sequences_.find(part.id);
    if (found == sequences_.end()) {
      continue;
    }
    // A recomputed prompt gives its log-probabilities again: deliver what is new.
    Sequence& sequence = *found->second;
    const std::int32_t have = sequence.logprobs_delivered;
    const std::int32_t skip = std::clamp<std::int32_t>(
        have - (part.first_position - 1), 0, static_cast<std::int32_t>(part.entries.size()));
    const auto fresh =
        std::span<const SampledToken>(part.entries).subspan(static_cast<std::size_t>(skip));
    if (!fresh.empty()) {
      sequence.logprobs_delivered += static_cast<std::int32_t>(fresh.size());
      sequence.sink->OnPromptLogprobs(fresh);
    }
  }
  for (const SequenceSample& sample : result.samples) {
    HandleSample(sample);
  }
  for (SequenceEmbedding& embedding : result.embeddings) {
    if (const auto found = sequences_.find(embedding.id); found != sequences_.end()) {
      found->second->sink->OnEmbedding(std::move(embedding.values));
      End(embedding.id, {.status = absl::OkStatus()});
    }
  }
}

void StepLoop::HandleSample(const SequenceSample& sample) {
  const auto found = sequences_.find(sample.id);
  if (found == sequences_.end()) {
    return;
  }
  Sequence& sequence = *found->second;
  ++sequence.generated;
  {
    const MutexLock lock(mutex_);
    rate_.Add(clock_.Now(), 1);
  }
  const std::vector<TokenId>& stops = sequence.request.stop_ids;
  if (std::find(stops.begin(), stops.end(), sample.token.id) != stops.end()) {
    End(sample.id,
        {.status = absl::OkStatus(), .reason = FinishReason::kStop, .stop_token = sample.token.id});
    return;
  }
  sequence.known.push_back(sample.token.id);
  sequence.sink->OnToken(sample.token);
  if (sequence.num_known() >= sequence.max_tokens) {
    End(sample.id, {.status = absl::OkStatus(), .reason = FinishReason::kLength});
  }
}

void StepLoop::HandleStageError(const absl::Status& status,
                                const std::vector<StepInFlight::Part>& parts) {
  // A lost peer is nobody's fault; any other error belongs to the sequences of that step.
  if (!absl::IsUnavailable(status)) {
    for (const StepInFlight::Part& part : parts) {
      Fail(part.id, status);
    }
  }
  in_flight_.clear();
  closes_.clear();
  for (const auto& [id, sequence] : sequences_) {
    sequence->steps_in_flight = 0;
    sequence->Rewind();
  }
  lost_since_ = clock_.Now();
  next_attempt_ = *lost_since_;
  TryRecovery();
}

void StepLoop::TryRecovery() {
  if (clock_.Now() < next_attempt_) {
    return;
  }
  const absl::Status status = stage_->Reset();
  if (status.ok()) {
    lost_since_.reset();
    return;
  }
  const TimePoint now = clock_.Now();
  next_attempt_ = now + options_.recovery_pause;
  if (now - *lost_since_ >= options_.recovery_limit) {
    FailAll(absl::UnavailableError(absl::StrFormat("a shard of this worker group is lost: %s",
                                                   std::string(status.message()))));
  }
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
    if (!sequence.started.has_value()) {
      waiting_tokens_ -= sequence.num_prompt();
    }
  }
  // What an observer sees after OnFinished must not count this sequence any more.
  PublishLoad();
  sequence.sink->OnFinished(told);
  const MutexLock lock(mutex_);
  if (--live_ == 0) {
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
  const MutexLock lock(mutex_);
  while (submitted_.empty() && cancelled_.empty() && !stopping_) {
    if (!lost_since_.has_value()) {
      wake_.Wait(mutex_);
    } else if (!wake_.WaitUntil(mutex_,
                                std::chrono::steady_clock::now() + options_.recovery_pause)) {
      return;
    }
  }
}

void StepLoop::PublishLoad() {
  EngineLoad load;
  load.kv_blocks_total = pool_.num_blocks();
  load.kv_blocks_free = pool_.num_free();
  load.stage_ok = !lost_since_.has_value();
  for (const auto& [id, sequence] : sequences_) {
    ++(sequence->running ? load.running : load.waiting);
    load.pending_prompt_tokens += std::max(sequence->num_prompt() - sequence->computed, 0);
  }
  const MutexLock lock(mutex_);
  load.waiting += static_cast<std::int32_t>(submitted_.size());
  load_ = load;
}

}  // namespace yangtuo
