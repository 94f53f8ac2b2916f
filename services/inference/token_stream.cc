#include "services/inference/token_stream.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "services/common/log.h"
#include "services/common/status.h"
#include "services/inference/generate_translation.h"

namespace yangtuo {
namespace {

// Roughly what an entry takes in memory and on the wire.
constexpr std::size_t kTokenBytes = 8;
constexpr std::size_t kCandidateBytes = 16;

std::size_t LogprobBytes(const SampledToken& token) {
  return kCandidateBytes * (1 + token.top.size());
}

}  // namespace

TokenStream::TokenStream(const Parts& parts, Options options)
    : metrics_(parts.metrics),
      clock_(parts.clock),
      options_(std::move(options)),
      arrival_(parts.clock.Now()),
      call_(parts.engine, parts.calls),
      trace_(options_.span, parts.clock) {}

void TokenStream::Start(EngineRequest request) {
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt_ids.size());
  trace_.Submitted(prompt_tokens, static_cast<std::int64_t>(request.resumed_ids.size()));
  wants_logprobs_ = request.sampling.logprobs.has_value();
  const absl::Status submitted = call_.Submit(std::move(request), this);
  if (submitted.ok()) {
    metrics_.RequestAccepted(prompt_tokens);
    return;
  }
  final_status_ = options_.describe(submitted);
  Finish(ToGrpc(final_status_));
}

// Everything below decides under the lock and acts after releasing it: StartWrite and Finish may
// run a reaction that takes the same lock.

void TokenStream::OnStarted(std::int32_t cached_prompt_tokens) {
  trace_.Started(cached_prompt_tokens);
  // Travels with what comes first.
  const MutexLock lock(mutex_);
  pending_.set_cached_prompt_tokens(static_cast<std::uint32_t>(cached_prompt_tokens));
}

void TokenStream::OnToken(SampledToken token) {
  ObserveToken();
  Act act = Act::kNothing;
  bool overflows = false;
  {
    const MutexLock lock(mutex_);
    if (cut_off_.has_value()) {
      return;
    }
    pending_.add_ids(static_cast<std::uint32_t>(token.id));
    std::size_t bytes = kTokenBytes;
    if (wants_logprobs_) {
      *pending_.add_logprobs() = ToProto(token);
      bytes += LogprobBytes(token);
    }
    overflows = Overflows(bytes);
    act = Advance();
  }
  Do(act);
  if (overflows) {
    call_.Cancel();
  }
}

void TokenStream::OnPromptLogprobs(std::span<const SampledToken> entries) {
  Act act = Act::kNothing;
  bool overflows = false;
  {
    const MutexLock lock(mutex_);
    if (cut_off_.has_value()) {
      return;
    }
    std::size_t bytes = 0;
    for (const SampledToken& entry : entries) {
      *pending_.add_prompt_logprobs() = ToProto(entry);
      bytes += LogprobBytes(entry);
    }
    overflows = Overflows(bytes);
    act = Advance();
  }
  Do(act);
  if (overflows) {
    call_.Cancel();
  }
}

void TokenStream::OnFinished(const SequenceOutcome& outcome) {
  metrics_.RequestQueued(outcome.queue);
  metrics_.TokensGenerated(outcome.generated_tokens);
  trace_.Finished(outcome);
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    outcome_ = outcome;
    act = Advance();
  }
  Do(act);
}

void TokenStream::OnWriteDone(bool ok) {
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok && !cut_off_.has_value()) {
      cut_off_ = absl::CancelledError("the client is gone");
      pending_.Clear();
    }
    act = Advance();
  }
  // Before Do, after which `this` may be gone.
  if (!ok) {
    call_.Cancel();
  }
  Do(act);
}

void TokenStream::OnDone() {
  metrics_.RequestEnded(final_status_, clock_.Now() - arrival_);
  trace_.End(final_status_);
  Log(LogLevel::kInfo, "generate ended",
      {{"request_id", options_.request_id},
       {"code", absl::StatusCodeToString(final_status_.code())},
       {"reason", std::string(final_status_.message())},
       {"tokens", tokens_},
       {"seconds", ToSeconds(clock_.Now() - arrival_)}});
  delete this;
}

void TokenStream::ObserveToken() {
  const TimePoint now = clock_.Now();
  if (last_token_.has_value()) {
    metrics_.NextToken(now - *last_token_);
  } else {
    metrics_.FirstToken(now - arrival_);
  }
  last_token_ = now;
  trace_.Token(now);
  ++tokens_;
}

bool TokenStream::Overflows(std::size_t bytes) {
  pending_bytes_ += bytes;
  if (pending_bytes_ <= options_.max_pending_bytes) {
    return false;
  }
  cut_off_ = WithReason(absl::ResourceExhaustedError(absl::StrFormat(
                            "the client reads too slowly: %d bytes of tokens wait, at most %d may",
                            pending_bytes_, options_.max_pending_bytes)),
                        "CLIENT_TOO_SLOW");
  pending_.Clear();
  return true;
}

TokenStream::Act TokenStream::Advance() {
  if (writing_) {
    return Act::kNothing;
  }
  const bool waiting = pending_.ids_size() > 0 || pending_.prompt_logprobs_size() > 0;
  if (waiting) {
    in_flight_.mutable_delta()->Clear();
    in_flight_.mutable_delta()->Swap(&pending_);
    pending_bytes_ = 0;
    writing_ = true;
    return Act::kWrite;
  }
  if (!outcome_.has_value()) {
    return Act::kNothing;
  }
  if (cut_off_.has_value()) {
    final_status_ = *cut_off_;
  } else if (!outcome_->status.ok()) {
    final_status_ = options_.describe(outcome_->status);
  } else {
    *in_flight_.mutable_finished() = ToProto(*outcome_);
  }
  return Act::kFinish;
}

void TokenStream::Do(Act act) {
  if (act == Act::kWrite) {
    StartWrite(&in_flight_);
  } else if (act == Act::kFinish && final_status_.ok()) {
    StartWriteAndFinish(&in_flight_, grpc::WriteOptions(), grpc::Status::OK);
  } else if (act == Act::kFinish) {
    Finish(ToGrpc(final_status_));
  }
}

}  // namespace yangtuo
