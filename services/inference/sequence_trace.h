#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "inference_core/engine/engine.h"
#include "services/common/tracer.h"

namespace yangtuo {

// One sequence's span and its parts: queue, prefill and decode, each one span however many steps it
// takes. Used by one thread at a time.
class SequenceTrace {
 public:
  // `clock` outlives it.
  SequenceTrace(Span span, const Clock& clock)
      : span_(std::move(span)), clock_(clock), arrival_(clock.Now()) {}

  void Submitted(std::int64_t prompt_tokens, std::int64_t resumed_tokens) {
    prompt_tokens_ = prompt_tokens;
    resumed_tokens_ = resumed_tokens;
  }
  void Started(std::int32_t cached_prompt_tokens);
  void Token(TimePoint now) {
    if (!first_token_.has_value()) {
      first_token_ = now;
    }
    last_token_ = now;
  }
  void Finished(const SequenceOutcome& outcome);
  void End(const absl::Status& status);

 private:
  const Span span_;
  const Clock& clock_;
  const TimePoint arrival_;
  std::int64_t prompt_tokens_ = 0;
  std::int64_t resumed_tokens_ = 0;
  std::int64_t cached_tokens_ = 0;
  std::int64_t generated_tokens_ = 0;
  std::optional<TimePoint> started_;
  std::optional<TimePoint> first_token_;
  TimePoint last_token_{};
  std::optional<TimePoint> finished_;
};

}  // namespace yangtuo
