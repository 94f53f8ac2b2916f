// What comes back from the stage: results, errors and recovery. The other half of StepLoop.

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/engine/step_loop.h"

namespace yangtuo {

void StepLoop::TakeResult() {
  const TimePoint asked = clock_.Now();
  absl::StatusOr<StepResult> result = stage_->Next();
  const TimePoint now = clock_.Now();
  if (!result.ok()) {
    const std::vector<StepInFlight::Part> parts = in_flight_.front().parts;
    HandleStageError(result.status(), parts);
    return;
  }
  if (const absl::Status complete = CheckResult(*result, in_flight_.front()); !complete.ok()) {
    const std::vector<StepInFlight::Part> parts = in_flight_.front().parts;
    HandleStageError(complete, parts);
    return;
  }
  outage_since_.reset();
  StepInFlight done = std::move(in_flight_.front());
  in_flight_.erase(in_flight_.begin());
  for (const StepInFlight::Part& part : done.parts) {
    if (const auto found = sequences_.find(part.id); found != sequences_.end()) {
      --found->second->steps_in_flight;
      StepTotals& totals = found->second->totals;
      ++totals.steps;
      totals.compute += result->compute;
      totals.wait += now - asked;
    }
  }
  done.stats.compute = result->compute;
  done.stats.wait = now - asked;
  done.stats.total = now - done.submitted;
  cost_ =
      Observe(cost_, done.stats.decode_rows, done.stats.prompt_rows, ToSeconds(done.stats.total));
  HandleResult(*result);
  if (observe_step_) {
    observe_step_(done.stats);
  }
  spare_in_flight_.push_back(std::move(done));
  spare_rows_.push_back(std::move(result->rows));
}

absl::Status StepLoop::CheckResult(const StepResult& result, const StepInFlight& step) {
  if (result.id != step.id) {
    return absl::InternalError(
        absl::StrFormat("the stage answered step %d, expected %d", result.id, step.id));
  }
  // Without its output a sequence would wait for ever.
  answered_.clear();
  for (const SequenceSample& sample : result.samples) {
    if (sample.token.id < 0 || sample.token.id >= info_.vocab) {
      return absl::InternalError(
          absl::StrFormat("the stage chose token id %d for sequence %d; the vocabulary has %d",
                          sample.token.id, sample.id, info_.vocab));
    }
    answered_.push_back(sample.id);
  }
  for (const SequenceEmbedding& embedding : result.embeddings) {
    answered_.push_back(embedding.id);
  }
  for (const SequenceFailure& failure : result.failures) {
    const auto part = std::find_if(
        step.parts.begin(), step.parts.end(),
        [&failure](const StepInFlight::Part& candidate) { return candidate.id == failure.id; });
    if (part == step.parts.end() || failure.status.ok()) {
      return absl::InternalError(
          absl::StrFormat("step %d has a failure of sequence %d, which is not among its rows or "
                          "has no error",
                          step.id, failure.id));
    }
    if (part->wants_output) {
      answered_.push_back(failure.id);
    }
  }
  wanted_.clear();
  for (const StepInFlight::Part& part : step.parts) {
    if (part.wants_output) {
      wanted_.push_back(part.id);
    }
  }
  std::sort(answered_.begin(), answered_.end());
  std::sort(wanted_.begin(), wanted_.end());
  if (answered_ != wanted_) {
    return absl::InternalError(
        absl::StrFormat("step %d has outputs of %d sequences, expected exactly those of the %d "
                        "that asked for one",
                        step.id, answered_.size(), wanted_.size()));
  }
  return absl::OkStatus();
}

void StepLoop::HandleResult(StepResult& result) {
  // First, so that nothing else of them is delivered.
  for (const SequenceFailure& failure : result.failures) {
    HandleFailure(failure);
  }
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
  for (SequenceSample& sample : result.samples) {
    HandleSample(sample);
  }
  for (SequenceEmbedding& embedding : result.embeddings) {
    if (const auto found = sequences_.find(embedding.id); found != sequences_.end()) {
      found->second->sink->OnEmbedding(std::move(embedding.values));
      End(embedding.id, {.status = absl::OkStatus()});
    }
  }
}

void StepLoop::HandleSample(SequenceSample& sample) {
  const auto found = sequences_.find(sample.id);
  if (found == sequences_.end()) {
    return;
  }
  Sequence& sequence = *found->second;
  ++sequence.generated;
  rate_.Add(clock_.Now(), 1);
  const std::vector<TokenId>& stops = sequence.request.stop_ids;
  if (std::find(stops.begin(), stops.end(), sample.token.id) != stops.end()) {
    End(sample.id,
        {.status = absl::OkStatus(), .reason = FinishReason::kStop, .stop_token = sample.token.id});
    return;
  }
  sequence.known.push_back(sample.token.id);
  sequence.sink->OnToken(std::move(sample.token));
  if (sequence.num_known() >= sequence.max_tokens) {
    End(sample.id, {.status = absl::OkStatus(), .reason = FinishReason::kLength});
  }
}

void StepLoop::HandleFailure(const SequenceFailure& failure) {
  const auto found = sequences_.find(failure.id);
  if (found != sequences_.end() && found->second->blocks.size() > 0) {
    found->second->blocks.ForgetContents();
  } else {
    // It has given its blocks up already, and nobody knows which they were.
    pool_.ForgetContents();
  }
  Fail(failure.id, failure.status);
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
  pool_.ForgetContents();
  stage_lost_ = true;
  if (!outage_since_.has_value()) {
    outage_since_ = clock_.Now();
    next_attempt_ = *outage_since_;
  }
  // New requests are refused from now on; an attempt may take its time.
  PublishLoad();
  TryRecovery();
}

void StepLoop::TryRecovery() {
  if (clock_.Now() >= next_attempt_) {
    const absl::Status status = stage_->Reset();
    next_attempt_ = clock_.Now() + options_.recovery_pause;
    stage_lost_ = !status.ok();
    lost_reason_ = std::string(status.message());
  }
  if (stage_lost_ && clock_.Now() - *outage_since_ >= options_.recovery_limit) {
    FailAll(absl::UnavailableError(
        absl::StrFormat("a shard of this worker group is lost: %s", lost_reason_)));
  }
}

}  // namespace yangtuo
