#include "services/inference/sequence_trace.h"

namespace yangtuo {

void SequenceTrace::Started(std::int32_t cached_prompt_tokens) {
  started_ = clock_.Now();
  cached_tokens_ = cached_prompt_tokens;
}

void SequenceTrace::Finished(const SequenceOutcome& outcome) {
  finished_ = clock_.Now();
  generated_tokens_ = outcome.generated_tokens;
  span_.Set("yangtuo.steps", std::int64_t{outcome.totals.steps});
  span_.Set("yangtuo.preemptions", std::int64_t{outcome.totals.preemptions});
  span_.Set("yangtuo.step_compute_seconds", ToSeconds(outcome.totals.compute));
  span_.Set("yangtuo.shard_wait_seconds", ToSeconds(outcome.totals.wait));
}

void SequenceTrace::End(const absl::Status& status) {
  if (!span_.recording()) {
    return;
  }
  if (finished_.has_value()) {
    span_.AddChild("queue", arrival_, started_.value_or(*finished_), {});
    span_.Set("gen_ai.usage.input_tokens", prompt_tokens_);
    span_.Set("gen_ai.usage.output_tokens", generated_tokens_);
    span_.Set("gen_ai.usage.cache_read.input_tokens", cached_tokens_);
    if (resumed_tokens_ > 0) {
      span_.Set("yangtuo.resumed_tokens", resumed_tokens_);
    }
  }
  if (started_.has_value() && finished_.has_value()) {
    span_.AddChild(
        "prefill", *started_, first_token_.value_or(*finished_),
        {{"gen_ai.usage.input_tokens", prompt_tokens_ + resumed_tokens_ - cached_tokens_}});
  }
  if (first_token_.has_value()) {
    span_.AddChild("decode", *first_token_, finished_.value_or(last_token_),
                   {{"gen_ai.usage.output_tokens", generated_tokens_}});
  }
  span_.End(status);
}

}  // namespace yangtuo
