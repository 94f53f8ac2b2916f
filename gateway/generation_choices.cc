#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "gateway/generation_choice.h"
#include "gateway/generation_flow.h"
#include "gateway/request_trace.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

// How long a stream that was lost waits before it asks for a group again.
constexpr Duration kRetryStep = std::chrono::milliseconds(100);

void SetDuration(Duration duration, google::protobuf::Duration& proto) {
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  proto.set_seconds(nanoseconds / 1'000'000'000);
  proto.set_nanos(static_cast<std::int32_t>(nanoseconds % 1'000'000'000));
}

std::span<const std::uint32_t> IdsOf(const internal::v1::GenerateDelta& delta) {
  return {delta.ids().data(), static_cast<std::size_t>(delta.ids_size())};
}

Duration FromProto(const google::protobuf::Duration& proto) {
  return std::chrono::seconds(proto.seconds()) + std::chrono::nanoseconds(proto.nanos());
}

}  // namespace

RouteRequest GenerationFlow::RouteOf(const Choice& choice) const {
  RouteRequest route{.model = model_.status->model(),
                     .tokenizer_digest = model_.status->tokenizer_digest(),
                     .context_tokens = model_.status->context_tokens(),
                     .avoid = choice.lost_workers,
                     .prompt_tokens = prompt_.ids.size() + choice.ids.size(),
                     .prompt_ids = prompt_.ids,
                     .cache_salt = scope_->caller().tenant};
  if (!choice.ids.empty()) {
    route.numerics_id = choice.numerics_id;
  } else if (scope_->deadline() != CallScope::Deadline::max()) {
    const bool full_length =
        request_.stop().ignore_eos() && request_.stop().stop_strings().empty() &&
        request_.stop().stop_token_ids().empty() && prompt_.stop_strings.empty();
    route.least_tokens = full_length ? max_new_tokens_
                                     : std::max(request_.stop().min_new_tokens(), std::uint32_t{1});
    route.time_left =
        std::chrono::duration_cast<Duration>(scope_->deadline() - std::chrono::system_clock::now());
  }
  return route;
}

void GenerationFlow::StartStream(std::size_t index) {
  RouteRequest route;
  {
    const MutexLock lock(mutex_);
    if (ended_ || choices_[index].done) {
      return;
    }
    route = RouteOf(choices_[index]);
  }
  auto lease = services_.workers.Route(route);
  if (!lease.ok()) {
    bool wait = false;
    {
      const MutexLock lock(mutex_);
      const std::optional<TimePoint>& give_up = choices_[index].give_up;
      wait = lease.status().code() == absl::StatusCode::kUnavailable && give_up.has_value() &&
             std::chrono::steady_clock::now() < *give_up;
    }
    if (wait) {
      RetryLater(index, kRetryStep);
    } else {
      Fail(lease.status());
    }
    return;
  }
  internal::v1::GenerateRequest request;
  int number = 0;
  {
    const MutexLock lock(mutex_);
    Choice& choice = choices_[index];
    number = ++choice.streams;
    ++choice.attempts;
    choice.worker = lease->worker().address();
    choice.numerics_id = lease->worker().status()->numerics_id();
    request = WorkerRequest(choice);
  }
  auto stream = WorkerStream::Start(*std::move(lease), std::move(request), scope_,
                                    std::make_shared<ChoiceEvents>(shared_from_this(), index));
  // It may have ended already, and its successor begun; then, as after the request's end, the
  // handle is dropped, after the lock.
  const MutexLock lock(mutex_);
  Choice& choice = choices_[index];
  if (!ended_ && !choice.done && choice.streams == number) {
    choice.stream.swap(stream);
  }
}

internal::v1::GenerateRequest GenerationFlow::WorkerRequest(const Choice& choice) const {
  internal::v1::GenerateRequest request;
  request.set_request_id(scope_->context().request_id);
  request.mutable_prompt_ids()->Assign(prompt_.ids.begin(), prompt_.ids.end());
  request.mutable_resumed_ids()->Assign(choice.ids.begin(), choice.ids.end());
  request.set_choice(choice.index);
  *request.mutable_sampling() = request_.sampling();
  request.mutable_sampling()->set_seed(seed_);
  *request.mutable_stop() = request_.stop();
  request.mutable_stop()->clear_stop_strings();
  request.mutable_stop()->set_max_new_tokens(max_new_tokens_);
  const Caller& caller = scope_->caller();
  request.set_priority(caller.PriorityFor(request_.priority()));
  request.set_tenant(caller.tenant);
  // Nobody learns from the time to the first token what others asked.
  request.set_cache_salt(caller.tenant);
  request.set_prompt_logprobs(request_.echo() && pieces_ != nullptr && choice.ids.empty());
  if (!choice.ids.empty()) {
    request.set_numerics_id(choice.numerics_id);
  }
  return request;
}

void GenerationFlow::OnDelta(std::size_t index, internal::v1::GenerateDelta& delta) {
  std::shared_ptr<TextStream> decode;
  {
    const MutexLock lock(mutex_);
    Choice& choice = choices_[index];
    if (ended_ || choice.done) {
      return;
    }
    for (v1::PositionLogprobs& entry : *delta.mutable_prompt_logprobs()) {
      choice.prompt_logprobs.push_back(std::move(entry));
    }
    if (choice.ids.empty()) {
      choice.cached_prompt_tokens =
          std::max(choice.cached_prompt_tokens, delta.cached_prompt_tokens());
    }
    if (!delta.ids().empty()) {
      AddEcho(choice);
      CountTokens(choice, static_cast<std::size_t>(delta.ids_size()));
      // It goes on: whatever happens next is news, and groups that were lost may be back.
      choice.give_up.reset();
      choice.attempts = 1;
      choice.lost_workers.clear();
      choice.ids.insert(choice.ids.end(), delta.ids().begin(), delta.ids().end());
      choice.text.AddTokens(IdsOf(delta), delta.mutable_logprobs());
      decode = choice.decode;
    }
  }
  if (decode != nullptr) {
    decode->Push(IdsOf(delta));
  }
}

void GenerationFlow::CountTokens(Choice& choice, std::size_t tokens) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (!record_->time_to_first_token.has_value()) {
    record_->time_to_first_token = now - record_->arrival();
    model_metrics_->ttft_seconds.Observe(ToSeconds(*record_->time_to_first_token));
  }
  std::size_t gaps = tokens;
  if (!choice.first_token.has_value()) {
    choice.first_token = now;
    choice.last_token = now;
    --gaps;
  }
  // Tokens that arrive together share the gap before them.
  for (std::size_t i = 0; i < gaps; ++i) {
    model_metrics_->inter_token_seconds.Observe(ToSeconds(now - choice.last_token) /
                                                static_cast<double>(tokens));
  }
  choice.last_token = now;
  model_metrics_->generation_tokens.Add(static_cast<double>(tokens));
}

void GenerationFlow::OnStreamEnd(std::size_t index, const absl::Status& status,
                                 const internal::v1::GenerateFinished* finished) {
  std::unique_ptr<WorkerStream> ended_stream;  // destroyed after the lock is free
  std::shared_ptr<TextStream> decode;
  absl::StatusOr<Duration> retry = Duration{};
  {
    const MutexLock lock(mutex_);
    Choice& choice = choices_[index];
    if (ended_ || choice.done) {
      return;
    }
    ended_stream = std::move(choice.stream);
    const bool complete = choice.ids.size() >= max_new_tokens_;
    if (finished != nullptr || complete) {
      AddEcho(choice);
      choice.result.set_finish_reason(finished != nullptr ? finished->reason()
                                                          : v1::FINISH_REASON_LENGTH);
      choice.result.set_completion_tokens(static_cast<std::uint32_t>(choice.ids.size()));
      if (finished != nullptr && finished->has_stop_token_id()) {
        choice.result.set_stop_token_id(finished->stop_token_id());
        choice.result.set_completion_tokens(choice.result.completion_tokens() + 1);
      }
      if (finished != nullptr) {
        choice.worker_queue = FromProto(finished->queue());
      }
      decode = choice.decode;
    } else {
      retry = PlanRetry(choice, status);
    }
  }
  if (decode != nullptr) {
    decode->End();
  } else if (!retry.ok()) {
    Fail(retry.status());
  } else {
    services_.metrics.retries("worker").Add();
    RetryLater(index, *retry);
  }
}

absl::StatusOr<Duration> GenerationFlow::PlanRetry(Choice& choice, const absl::Status& status) {
  choice.lost_workers.push_back(choice.worker);
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    return PlanRetryOfFull(choice, status);
  }
  if (status.code() != absl::StatusCode::kUnavailable ||
      choice.attempts >= services_.resume.max_streams) {
    return status;
  }
  if (choice.ids.empty()) {
    choice.prompt_logprobs.clear();  // they come again
    choice.cached_prompt_tokens = 0;
  }
  // From this loss on, however long the group that is lost now had computed a prompt before.
  choice.give_up = std::chrono::steady_clock::now() + services_.resume.max_wait;
  // At once to another group; a group that failed twice gets time.
  return kRetryStep * (choice.attempts - 1);
}

// A request that has not begun goes to another group or is refused. An answer that has waits for
// room: the groups that are left have the streams of the lost one to take over, all at once.
absl::StatusOr<Duration> GenerationFlow::PlanRetryOfFull(Choice& choice,
                                                         const absl::Status& status) {
  RouteRequest other = RouteOf(choice);
  other.tried = RouteRequest::Tried::kNever;
  const bool another = services_.workers.CanRoute(other);
  if (choice.ids.empty()) {
    return another ? absl::StatusOr<Duration>(Duration{}) : status;
  }
  const TimePoint now = std::chrono::steady_clock::now();
  if (!choice.give_up.has_value()) {
    choice.give_up = now + services_.resume.max_wait;
  }
  if (now >= *choice.give_up) {
    return absl::UnavailableError(absl::StrFormat(
        "the answer lost its worker and no other one had room for it: %s", status.message()));
  }
  --choice.attempts;  // nothing was tried
  return another ? Duration{} : kRetryStep;
}

void GenerationFlow::RetryLater(std::size_t index, Duration wait) {
  if (wait == Duration{}) {
    StartStream(index);
    return;
  }
  services_.timers.After(wait, [flow = weak_from_this(), index] {
    if (const auto alive = flow.lock(); alive != nullptr) {
      alive->StartStream(index);
    }
  });
}

void GenerationFlow::AddEcho(Choice& choice) {
  if (!request_.echo() || choice.echoed) {
    return;
  }
  choice.echoed = true;
  v1::Delta delta;
  delta.set_choice(choice.index);
  delta.set_text(echo_text_);
  delta.mutable_token_ids()->Assign(prompt_.ids.begin(), prompt_.ids.end());
  if (pieces_ != nullptr) {
    // One entry per id. Nothing precedes the first token: it has no probability.
    v1::PositionLogprobs& first = *delta.add_logprobs();
    first.mutable_chosen()->set_token_id(prompt_.ids.front());
    first.mutable_chosen()->set_no_logprob(true);
    FillPieces(*pieces_, first);
    for (std::size_t i = 0; i + 1 < prompt_.ids.size(); ++i) {
      v1::PositionLogprobs& entry = *delta.add_logprobs();
      if (i < choice.prompt_logprobs.size()) {
        entry = std::move(choice.prompt_logprobs[i]);
        FillPieces(*pieces_, entry);
      }
    }
    choice.prompt_logprobs.clear();
  }
  if (pieces_ != nullptr || !echo_text_.empty()) {
    Add(std::move(delta));
  }
}

void GenerationFlow::Add(v1::Delta delta) {
  v1::GenerateResponse response;
  *response.mutable_delta() = std::move(delta);
  sink_full_ = sink_->Add(std::move(response)) == SinkRoom::kFull;
}

void GenerationFlow::OnText(std::size_t index, std::string_view text, std::uint32_t ids_consumed) {
  std::unique_ptr<WorkerStream> stopped;  // cancelled when destroyed, after the lock
  std::shared_ptr<TextStream> decode;
  {
    const MutexLock lock(mutex_);
    Choice& choice = choices_[index];
    if (ended_ || choice.done) {
      return;
    }
    if (auto delta = choice.text.AddText(text, ids_consumed); delta.has_value()) {
      Add(*std::move(delta));
    }
    if (choice.text.stop_string().has_value()) {
      choice.done = true;
      --choices_open_;
      choice.result.set_finish_reason(v1::FINISH_REASON_STOP);
      choice.result.set_stop_string(*choice.text.stop_string());
      choice.result.set_completion_tokens(choice.text.ids_consumed());
      stopped = std::move(choice.stream);
      decode = std::move(choice.decode);
    }
  }
  if (decode != nullptr) {
    decode->Abandon();
  }
  AfterEvents();
}

void GenerationFlow::OnTextEnd(std::size_t index, const absl::Status& status) {
  if (!status.ok()) {
    Fail(status);
    return;
  }
  {
    const MutexLock lock(mutex_);
    Choice& choice = choices_[index];
    if (ended_ || choice.done) {
      return;
    }
    if (auto delta = choice.text.Finish(); delta.has_value()) {
      Add(*std::move(delta));
    }
    choice.done = true;
    --choices_open_;
  }
  AfterEvents();
}

void GenerationFlow::AfterEvents() {
  std::unique_ptr<RequestRecord> finished;
  bool full = false;
  {
    const MutexLock lock(mutex_);
    if (ended_) {
      return;
    }
    full = sink_full_;
    if (!full && choices_open_ == 0) {
      AddFinished();
      ended_ = true;
      finished = std::move(record_);
      permit_.reset();
    }
  }
  if (full) {
    Fail(WithReason(absl::ResourceExhaustedError("the client reads the answer more slowly than it "
                                                 "is made and the gateway's buffer for it is full "
                                                 "(--client-buffer): read faster"),
                    "CLIENT_TOO_SLOW"));
  } else if (finished != nullptr) {
    finished->End(absl::OkStatus());
    sink_->End(absl::OkStatus());
  } else {
    sink_->Flush();
  }
}

void GenerationFlow::AddFinished() {
  v1::GenerateResponse response;
  v1::Finished& finished = *response.mutable_finished();
  const TimePoint now = std::chrono::steady_clock::now();
  Duration gaps{};
  std::int64_t num_gaps = 0;
  std::uint32_t completion_tokens = 0;
  // What one choice computed and the others found was computed for this request.
  std::uint32_t cached_tokens = choices_.front().cached_prompt_tokens;
  for (const Choice& choice : choices_) {
    cached_tokens = std::min(cached_tokens, choice.cached_prompt_tokens);
    *finished.add_choices() = choice.result;
    completion_tokens += choice.result.completion_tokens();
    if (choice.first_token.has_value()) {
      gaps += choice.last_token - *choice.first_token;
      num_gaps += static_cast<std::int64_t>(choice.ids.size()) - 1;
    }
  }
  finished.mutable_usage()->set_prompt_tokens(static_cast<std::uint32_t>(prompt_.ids.size()));
  finished.mutable_usage()->set_completion_tokens(completion_tokens);
  finished.mutable_usage()->set_cached_prompt_tokens(cached_tokens);
  v1::Timings& timings = *finished.mutable_timings();
  SetDuration(launched_at_ - record_->arrival() + choices_.front().worker_queue,
              *timings.mutable_queue());
  SetDuration(record_->time_to_first_token.value_or(Duration{}),
              *timings.mutable_time_to_first_token());
  SetDuration(num_gaps > 0 ? gaps / num_gaps : Duration{}, *timings.mutable_time_per_token());
  SetDuration(now - record_->arrival(), *timings.mutable_total());
  record_->completion_tokens = completion_tokens;
  TraceFinished(finished, scope_->span());
  model_metrics_->e2e_seconds.Observe(ToSeconds(now - record_->arrival()));
  sink_->Add(std::move(response));
}

}  // namespace yangtuo::gateway
