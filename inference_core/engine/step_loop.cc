#include "inference_core/engine/step_loop.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/engine/request_check.h"

namespace yangtuo {
namespace {

constexpr Duration kLostPoll = std::chrono::milliseconds(20);

std::optional<PrefixScheme> SchemeOf(const EngineOptions& options, const StageInfo& info) {
  if (options.prefix_cache == PrefixCache::kOff) {
    return std::nullopt;
  }
  // The digest covers the config, and with it the rope settings.
  const std::string numerics_id = absl::StrFormat("%s/%s", info.model_digest, info.numerics);
  return PrefixScheme{.name = kBlockKeyScheme,
                      .block_size = info.kv_block_size,
                      .root = RootBlockKey(numerics_id, info.kv_block_size)};
}

// The first bytes of a key, as the scheduler's name of a block. Two blocks with the same name would
// merely make a sequence wait for nothing.
std::uint64_t NameOf(const BlockKey& key) {
  std::uint64_t name = 0;
  std::memcpy(&name, key.data(), sizeof(name));
  return name | 1U;
}

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
      prompt_reserve_(std::min(options.least_prompt_rows, options.step_tokens / 2)),
      max_running_(static_cast<std::int32_t>(std::min<std::int64_t>(
          options.max_running, std::int64_t{options.step_tokens - prompt_reserve_} * info_.depth))),
      prefix_scheme_(SchemeOf(options, info_)),
      pool_(info_.kv_blocks, info_.kv_block_size) {
  plan_input_.find_reusable = [this](std::uint64_t id, std::span<const std::uint64_t> preempted) {
    return FindReusable(id, preempted);
  };
  PublishLoad();
  thread_ = std::jthread([this] { Run(); });
}

StepLoop::~StepLoop() {
  {
    const MutexLock lock(mutex_);
    accepting_ = false;
    stopping_ = true;
    has_commands_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

void StepLoop::Run() {
  while (TakeCommands()) {
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
  FailAll(absl::CancelledError("the worker is shutting down"));
}

bool StepLoop::TakeCommands() {
  if (!has_commands_.load()) {
    return true;
  }
  std::vector<std::unique_ptr<Sequence>> submitted;
  std::vector<SequenceId> cancelled;
  bool stopping = false;
  {
    const MutexLock lock(mutex_);
    submitted.swap(submitted_);
    cancelled.swap(cancelled_);
    stopping = stopping_;
    has_commands_ = false;
    // Under the lock: between queue and board nobody may see them nowhere.
    for (const std::unique_ptr<Sequence>& sequence : submitted) {
      board_.AddWaiting(1, sequence->num_prompt());
    }
  }
  for (std::unique_ptr<Sequence>& sequence : submitted) {
    const SequenceId id = sequence->id;
    sequence->tenant = tenants_.Enter(sequence->request.tenant);
    sequences_.emplace(id, std::move(sequence));
    const Sequence& taken = *sequences_.at(id);
    if (taken.request.task == SequenceTask::kGenerate && taken.num_known() >= taken.max_tokens) {
      End(id, {.status = absl::OkStatus(), .reason = FinishReason::kLength});
    }
  }
  for (const SequenceId id : cancelled) {
    Fail(id, absl::CancelledError("the request was cancelled"));
  }
  return !stopping;
}

void StepLoop::ExpireDeadlines() {
  const TimePoint now = clock_.Now();
  expired_.clear();
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->request.deadline.has_value() && *sequence->request.deadline <= now) {
      expired_.push_back(id);
    }
  }
  for (const SequenceId id : expired_) {
    Fail(id, absl::DeadlineExceededError("the deadline passed before the answer was complete"));
  }
}

std::int32_t StepLoop::PromptRowsOfStep() const {
  if (options_.target_step == Duration::zero()) {
    return options_.step_tokens;
  }
  return PromptRowsWithin(ToSeconds(options_.target_step), cost_, options_.least_prompt_rows,
                          options_.step_tokens);
}

ScheduledSequence StepLoop::Describe(const Sequence& sequence, Sharing sharing) const {
  const auto next = static_cast<std::size_t>(sequence.computed / info_.kv_block_size);
  const bool fills = sequence.running && next < sequence.block_keys.size();
  return {.id = sequence.id,
          .priority = sequence.request.priority,
          .known_tokens = sequence.num_known(),
          .computed_tokens = sequence.computed,
          .blocks = sequence.blocks.size(),
          .shared_blocks = sharing == Sharing::kCount ? sequence.blocks.num_shared() : 0,
          .steps_in_flight = sequence.steps_in_flight,
          .next_block = fills ? NameOf(sequence.block_keys[next]) : 0,
          .preempted = !sequence.running && sequence.started.has_value(),
          .tenant = sequence.tenant,
          .tenant_served = tenants_.served(sequence.tenant)};
}

bool StepLoop::SharesBlocks(const Sequence& sequence) const {
  return prefix_scheme_.has_value() && sequence.request.task == SequenceTask::kGenerate;
}

std::span<const BlockKey> StepLoop::ReusableKeys(const Sequence& sequence) const {
  const auto blocks = static_cast<std::size_t>(sequence.MostReusable() / info_.kv_block_size);
  const std::span<const BlockKey> keys(sequence.block_keys);
  return keys.first(std::min(blocks, keys.size()));
}

Reusable StepLoop::FindReusable(SequenceId id, std::span<const SequenceId> preempted) const {
  const std::span<const BlockKey> keys = ReusableKeys(*sequences_.at(id));
  std::vector<const SequenceBlocks*> without;
  for (const SequenceId victim : preempted) {
    without.push_back(&sequences_.at(victim)->blocks);
  }
  const BlockPool::Found found = pool_.Find(keys, without);
  const auto next = static_cast<std::size_t>(found.blocks);
  return {.tokens = found.blocks * info_.kv_block_size,
          .free_blocks = found.unheld,
          .next_block = next < keys.size() ? NameOf(keys[next]) : 0};
}

bool StepLoop::MayPreempt() const {
  std::int32_t lowest_running = std::numeric_limits<std::int32_t>::max();
  std::int32_t highest_waiting = std::numeric_limits<std::int32_t>::min();
  for (const auto& [id, sequence] : sequences_) {
    const std::int32_t priority = sequence->request.priority;
    if (sequence->running) {
      lowest_running = std::min(lowest_running, priority);
    } else {
      highest_waiting = std::max(highest_waiting, priority);
    }
  }
  // A step takes no more blocks than its rows fill, and one for every sequence.
  const auto live = static_cast<std::int32_t>(sequences_.size());
  return highest_waiting > lowest_running ||
         pool_.num_free() <= options_.step_tokens / info_.kv_block_size + live;
}

void StepLoop::Plan() {
  plan_input_.limits = {.step_tokens = options_.step_tokens,
                        .prompt_chunk = options_.prompt_chunk,
                        .prompt_tokens = PromptRowsOfStep(),
                        .prompt_reserve = prompt_reserve_,
                        .max_running = max_running_,
                        .depth = info_.depth,
                        .block_size = info_.kv_block_size,
                        .free_blocks = pool_.num_free()};
  plan_input_.running.clear();
  plan_input_.waiting.clear();
  const Sharing sharing = MayPreempt() ? Sharing::kCount : Sharing::kIgnore;
  for (const auto& [id, sequence] : sequences_) {
    (sequence->running ? plan_input_.running : plan_input_.waiting)
        .push_back(Describe(*sequence, sharing));
  }
  PlanNextStep(plan_input_, plan_);
}

void StepLoop::SubmitSteps() {
  while (static_cast<std::int32_t>(in_flight_.size()) < info_.depth && !sequences_.empty()) {
    Plan();
    Preempt(plan_.preempt);
    if (plan_.empty() && plan_.preempt.empty()) {
      return;
    }
    if (plan_.empty()) {
      continue;  // Now it can be seen which blocks are free.
    }
    StepInFlight in_flight;
    if (!spare_in_flight_.empty()) {
      in_flight = std::move(spare_in_flight_.back());
      spare_in_flight_.pop_back();
    }
    in_flight.id = next_step_;
    in_flight.submitted = clock_.Now();
    in_flight.stats = {};
    in_flight.parts.clear();
    Step step = MakeStep(in_flight);
    if (step.rows.empty()) {
      closes_.insert(closes_.begin(), step.closes.begin(), step.closes.end());
      continue;
    }
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
    ++sequence.totals.preemptions;
    ++preempted_since_step_;
  }
}

Step StepLoop::MakeStep(StepInFlight& in_flight) {
  Step step;
  step.id = in_flight.id;
  step.closes = std::exchange(closes_, {});
  // What is reusable is held before anybody takes new blocks: those might be the same.
  for (const PlannedRows& planned : plan_.prompt) {
    if (Sequence& sequence = *sequences_.at(planned.id); !sequence.running) {
      Begin(sequence, in_flight);
    }
  }
  if (!spare_rows_.empty()) {
    step.rows = std::move(spare_rows_.back());
    spare_rows_.pop_back();
  }
  step.rows.resize(plan_.decode.size() + plan_.prompt.size());
  std::size_t next = 0;
  std::int32_t decode_rows = 0;
  for (const std::vector<PlannedRows>* rows : {&plan_.decode, &plan_.prompt}) {
    for (const PlannedRows& planned : *rows) {
      if (AddRows(planned, step.rows[next], step, in_flight)) {
        ++next;
        decode_rows += rows == &plan_.decode ? 1 : 0;
      } else {
        // Our own bug, and no reason to fail the others of the step.
        assert(false);
        Fail(planned.id, absl::InternalError("a step was planned with more KV blocks than are "
                                             "free; the request can be tried again"));
      }
    }
  }
  step.rows.resize(next);
  StepStats& stats = in_flight.stats;
  stats.decode_rows = decode_rows;
  stats.prompt_rows = static_cast<std::int32_t>(step.num_tokens()) - stats.decode_rows;
  stats.sequences = static_cast<std::int32_t>(step.rows.size());
  stats.preempted = std::exchange(preempted_since_step_, 0);
  stats.evictions = static_cast<std::int32_t>(pool_.evictions() - evictions_reported_);
  evictions_reported_ = pool_.evictions();
  return step;
}

void StepLoop::Begin(Sequence& sequence, StepInFlight& in_flight) {
  sequence.running = true;
  const std::span<const BlockKey> keys = ReusableKeys(sequence);
  sequence.computed = sequence.blocks.TakeFound(keys) * info_.kv_block_size;
  if (sequence.started.has_value()) {
    return;
  }
  sequence.started = in_flight.submitted;
  sequence.Reserve(info_.kv_block_size);
  if (prefix_scheme_.has_value() && sequence.MostReusable() > 0) {
    in_flight.stats.prefix_queries += sequence.num_known();
    in_flight.stats.prefix_hits += sequence.computed;
  }
  {
    const MutexLock lock(mutex_);
    waiting_tokens_ -= sequence.num_prompt();
  }
  sequence.sink->OnStarted(std::min(sequence.computed, sequence.num_prompt()));
}

bool StepLoop::AddRows(const PlannedRows& planned, StepRows& rows, Step& step,
                       StepInFlight& in_flight) {
  Sequence& sequence = *sequences_.at(planned.id);
  const std::int32_t first = sequence.computed;
  const std::int32_t end = first + planned.tokens;
  if (!sequence.blocks.GrowTo(end)) {
    return false;
  }
  if (!sequence.open) {
    sequence.open = true;
    step.opens.push_back(
        {.id = sequence.id,
         .task = sequence.request.task,
         .prompt_ids = sequence.request.prompt_ids,
         .emitted_ids = {sequence.known.begin() + sequence.num_prompt(), sequence.known.end()},
         .sampling = sequence.request.sampling,
         .constraint = sequence.request.constraint,
         .prompt_logprobs = sequence.request.prompt_logprobs,
         .traceparent = sequence.request.traceparent});
  }
  sequence.computed = end;
  ++sequence.steps_in_flight;
  tenants_.Charge(sequence.tenant, planned.tokens);
  const bool wants_output = end == sequence.num_known();
  const auto table = sequence.blocks.table();
  rows.id = sequence.id;
  rows.first_position = first;
  rows.token_ids.assign(sequence.known.begin() + first, sequence.known.begin() + end);
  // Room for the whole life at once, or it would grow in the middle of it.
  rows.kv_blocks.reserve(sequence.blocks.capacity());
  rows.kv_blocks.assign(table.begin(), table.end());
  rows.want_output = wants_output;
  in_flight.parts.push_back({.id = sequence.id, .wants_output = wants_output});
  if (SharesBlocks(sequence)) {
    PublishBlocks(sequence, first, end);
  }
  return true;
}

void StepLoop::PublishBlocks(Sequence& sequence, std::int32_t first, std::int32_t end) {
  const std::int32_t size = info_.kv_block_size;
  std::vector<BlockKey>& keys = sequence.block_keys;
  for (std::int32_t block = first / size; block < end / size; ++block) {
    const auto at = static_cast<std::size_t>(block);
    if (at == keys.size()) {
      const std::span<const TokenId> known(sequence.known);
      const BlockKey parent = keys.empty() ? sequence.first_parent : keys.back();
      keys.push_back(hasher_.Next(parent, known.subspan(at * static_cast<std::size_t>(size),
                                                        static_cast<std::size_t>(size))));
    }
    sequence.blocks.Publish(block, keys[at]);
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
  tenants_.Leave(sequence.tenant);
  SequenceOutcome told = outcome;
  told.generated_tokens = sequence.generated;
  told.totals = sequence.totals;
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
  load.kv_blocks_free = pool_.num_free();
  load.kv_blocks_cached = pool_.num_cached();
  load.stage_ok = !stage_lost_;
  for (const auto& [id, sequence] : sequences_) {
    ++(sequence->running ? load.running : load.waiting);
    load.pending_prompt_tokens += std::max(sequence->num_prompt() - sequence->computed, 0);
  }
  board_.Show(load);
}

}  // namespace yangtuo
