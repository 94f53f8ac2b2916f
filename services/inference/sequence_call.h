#pragma once

#include <optional>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"

namespace yangtuo {

class SequenceCall;

// All calls in progress, so that the end of a drain can cancel them. Thread-safe.
class SequenceCalls {
 public:
  void CancelAll() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class SequenceCall;
  void Add(SequenceCall* call) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    calls_.insert(call);
  }
  void Remove(SequenceCall* call) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    calls_.erase(call);
  }

  Mutex mutex_;
  std::set<SequenceCall*> calls_ ABSL_GUARDED_BY(mutex_);
};

// One sequence in the engine on behalf of one call: ties cancelling, which may be asked for at any
// moment, to the id that Submit returns. Thread-safe.
class SequenceCall {
 public:
  // Both outlive it.
  SequenceCall(Engine& engine, SequenceCalls& calls) : engine_(engine), calls_(calls) {
    calls_.Add(this);
  }
  ~SequenceCall() { calls_.Remove(this); }
  SequenceCall(const SequenceCall&) = delete;
  SequenceCall& operator=(const SequenceCall&) = delete;

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
  SequenceCalls& calls_;
  Mutex mutex_;
  std::optional<SequenceId> id_ ABSL_GUARDED_BY(mutex_);
  bool cancel_wanted_ ABSL_GUARDED_BY(mutex_) = false;
};

// Under the lock, so that no call can end while it is being cancelled; cancelling takes the call's
// and the engine's locks, in that order, and neither is held when a call ends.
inline void SequenceCalls::CancelAll() {
  const MutexLock lock(mutex_);
  for (SequenceCall* call : calls_) {
    call->Cancel();
  }
}

}  // namespace yangtuo
