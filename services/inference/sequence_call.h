#pragma once

#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"

namespace yangtuo {

// One sequence in the engine on behalf of one call: ties cancelling, which may be asked for at any
// moment, to the id that Submit returns. Thread-safe.
class SequenceCall {
 public:
  explicit SequenceCall(Engine& engine) : engine_(engine) {}

  // `sink` may have got its OnFinished before this returns.
  absl::Status Submit(EngineRequest request, SequenceSink* sink) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::StatusOr<SequenceId> id = engine_.Submit(std::move(request), sink);
    if (!id.ok()) {
      return id.status();
    }
    bool cancel = false;
    {
      const MutexLock lock(mutex_);
      id_ = *id;
      cancel = cancel_wanted_;
    }
    if (cancel) {
      engine_.Cancel(*id);
    }
    return absl::OkStatus();
  }

  // Never blocks; may be called more than once.
  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::optional<SequenceId> id;
    {
      const MutexLock lock(mutex_);
      cancel_wanted_ = true;
      id = id_;
    }
    if (id.has_value()) {
      engine_.Cancel(*id);
    }
  }

 private:
  Engine& engine_;
  Mutex mutex_;
  std::optional<SequenceId> id_ ABSL_GUARDED_BY(mutex_);
  bool cancel_wanted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace yangtuo
