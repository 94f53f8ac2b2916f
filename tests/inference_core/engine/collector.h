#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "gtest/gtest.h"
#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"

namespace yangtuo::testing {

// Collects one sequence's output; checks the order of events.
class Collector final : public SequenceSink {
 public:
  void OnStarted(std::int32_t cached_prompt_tokens) override {
    const MutexLock lock(mutex_);
    EXPECT_FALSE(started_) << "started twice";
    EXPECT_FALSE(finished_) << "started after the end";
    started_ = true;
    cached_prompt_tokens_ = cached_prompt_tokens;
  }
  void OnToken(SampledToken token) override {
    const MutexLock lock(mutex_);
    EXPECT_TRUE(started_) << "a token before the start";
    EXPECT_FALSE(finished_) << "a token after the end";
    tokens_.push_back(token.id);
    sampled_.push_back(std::move(token));
    changed_.NotifyAll();
  }
  void OnPromptLogprobs(std::span<const SampledToken> entries) override {
    const MutexLock lock(mutex_);
    EXPECT_TRUE(tokens_.empty()) << "prompt log-probabilities after a token";
    for (const SampledToken& entry : entries) {
      prompt_.push_back(entry.id);
    }
  }
  void OnEmbedding(std::vector<float> values) override {
    const MutexLock lock(mutex_);
    embedding_ = std::move(values);
  }
  void OnFinished(const SequenceOutcome& outcome) override {
    const MutexLock lock(mutex_);
    EXPECT_FALSE(finished_) << "finished twice";
    finished_ = true;
    outcome_ = outcome;
    // A status of our own: ThreadSanitizer does not see how Debian's Abseil counts references, and
    // would take the engine's last use of a shared one for a race.
    outcome_.status = absl::Status(outcome.status.code(), outcome.status.message());
    outcome.status.ForEachPayload([this](absl::string_view type, const absl::Cord& payload) {
      outcome_.status.SetPayload(type, payload);
    });
    changed_.NotifyAll();
  }

  SequenceOutcome Wait() {
    const MutexLock lock(mutex_);
    const TimePoint limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!finished_ && changed_.WaitUntil(mutex_, limit)) {
    }
    EXPECT_TRUE(finished_);
    return outcome_;
  }
  void WaitForTokens(std::size_t count) {
    const MutexLock lock(mutex_);
    const TimePoint limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (tokens_.size() < count && !finished_ && changed_.WaitUntil(mutex_, limit)) {
    }
  }
  // The tokens with their log-probabilities.
  std::vector<SampledToken> sampled() {
    const MutexLock lock(mutex_);
    return sampled_;
  }
  std::vector<TokenId> tokens() {
    const MutexLock lock(mutex_);
    return tokens_;
  }
  std::int32_t cached_prompt_tokens() {
    const MutexLock lock(mutex_);
    return cached_prompt_tokens_;
  }
  std::vector<TokenId> prompt() {
    const MutexLock lock(mutex_);
    return prompt_;
  }
  std::vector<float> embedding() {
    const MutexLock lock(mutex_);
    return embedding_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<TokenId> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<SampledToken> sampled_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenId> prompt_ ABSL_GUARDED_BY(mutex_);
  std::vector<float> embedding_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  std::int32_t cached_prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  SequenceOutcome outcome_ ABSL_GUARDED_BY(mutex_);
};

inline EngineRequest Request(std::vector<TokenId> prompt, std::int32_t max_new_tokens,
                             std::uint64_t seed = 1) {
  EngineRequest request;
  request.prompt_ids = std::move(prompt);
  request.max_new_tokens = max_new_tokens;
  request.sampling.seed = seed;
  return request;
}

}  // namespace yangtuo::testing
