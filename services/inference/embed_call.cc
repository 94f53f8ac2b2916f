#include "services/inference/embed_call.h"

#include <utility>

#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo {

EmbedCall::EmbedCall(const TokenStream::Parts& parts, Options options,
                     internal::v1::EmbedResponse* response)
    : metrics_(parts.metrics),
      clock_(parts.clock),
      options_(std::move(options)),
      arrival_(parts.clock.Now()),
      call_(parts.engine, parts.calls),
      response_(response),
      trace_(options_.span, parts.clock) {}

void EmbedCall::Start(EngineRequest request) {
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt_ids.size());
  trace_.Submitted(prompt_tokens, 0);
  const absl::Status submitted = call_.Submit(std::move(request), this);
  if (submitted.ok()) {
    metrics_.RequestAccepted(prompt_tokens);
    return;
  }
  final_status_ = options_.describe(submitted);
  Finish(ToGrpc(final_status_));
}

void EmbedCall::OnEmbedding(std::vector<float> values) {
  response_->mutable_values()->Add(values.begin(), values.end());
}

void EmbedCall::OnFinished(const SequenceOutcome& outcome) {
  metrics_.RequestQueued(outcome.queue);
  trace_.Finished(outcome);
  if (!outcome.status.ok()) {
    final_status_ = options_.describe(outcome.status);
  }
  Finish(ToGrpc(final_status_));  // `this` may be gone once Finish returns.
}

void EmbedCall::OnDone() {
  metrics_.RequestEnded(final_status_, clock_.Now() - arrival_);
  trace_.End(final_status_);
  Log(LogLevel::kInfo, "embed ended",
      {{"request_id", options_.request_id},
       {"code", absl::StatusCodeToString(final_status_.code())},
       {"seconds", ToSeconds(clock_.Now() - arrival_)}});
  delete this;
}

}  // namespace yangtuo
