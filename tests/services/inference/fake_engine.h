#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"

namespace yangtuo::testing {

// An engine whose sequences the test plays by hand. The test's thread is the engine's thread.
class FakeEngine final : public Engine {
 public:
  FakeEngine() {
    info_.model_digest = "abc";
    info_.numerics = "f32/v1";
    info_.vocab = 100;
    info_.context_tokens = 64;
  }

  absl::StatusOr<SequenceId> Submit(EngineRequest request, SequenceSink* sink) override {
    const MutexLock lock(mutex_);
    if (refusal_.has_value()) {
      return *refusal_;
    }
    const SequenceId id = next_id_++;
    submitted_.emplace_back(id, std::move(request));
    sinks_[id] = sink;
    changed_.NotifyAll();
    return id;
  }

  void Cancel(SequenceId id) override {
    const MutexLock lock(mutex_);
    cancelled_.push_back(id);
    changed_.NotifyAll();
  }

  [[nodiscard]] EngineLoad load() const override { return {}; }
  [[nodiscard]] const StageInfo& stage_info() const override { return info_; }
  [[nodiscard]] const std::optional<PrefixScheme>& prefix_scheme() const override {
    return no_scheme_;
  }
  void StopAccepting() override {}
  bool WaitUntilIdle(TimePoint /*deadline*/) override { return true; }

  void RefuseWith(absl::Status refusal) {
    const MutexLock lock(mutex_);
    refusal_ = std::move(refusal);
  }

  // Blocks until the next request is there.
  std::pair<SequenceId, EngineRequest> Await() {
    const MutexLock lock(mutex_);
    while (submitted_.empty()) {
      changed_.Wait(mutex_);
    }
    auto first = std::move(submitted_.front());
    submitted_.erase(submitted_.begin());
    return first;
  }

  // Blocks until something is cancelled.
  SequenceId AwaitCancel() {
    const MutexLock lock(mutex_);
    while (cancelled_.empty()) {
      changed_.Wait(mutex_);
    }
    return cancelled_.back();
  }

  SequenceSink& sink(SequenceId id) {
    const MutexLock lock(mutex_);
    return *sinks_.at(id);
  }

 private:
  StageInfo info_;
  const std::optional<PrefixScheme> no_scheme_;
  Mutex mutex_;
  CondVar changed_;
  SequenceId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::optional<absl::Status> refusal_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<SequenceId, EngineRequest>> submitted_ ABSL_GUARDED_BY(mutex_);
  std::vector<SequenceId> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::map<SequenceId, SequenceSink*> sinks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::testing
