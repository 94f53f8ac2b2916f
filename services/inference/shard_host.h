#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "inference_core/model/stage.h"
#include "services/inference/relay_stage.h"
#include "services/inference/shard_traces.h"
#include "yangtuo/internal/v1/shard.pb.h"

namespace yangtuo {

// The shard before this one, at the other end of a stream. Thread-safe; nothing blocks. After End
// the rest is ignored.
class ShardCaller {
 public:
  virtual ~ShardCaller() = default;
  virtual void Welcome(const internal::v1::Welcome& welcome) = 0;
  virtual void Answer(const internal::v1::StepResponse& response) = 0;
  // Sends what is waiting, then ends the stream.
  virtual void End(const absl::Status& status) = 0;
};

// Runs one shard's layers for whoever leads its group: owns the stage and the one thread that
// computes on it. Serves one caller at a time, the one with the largest epoch; what older callers
// sent is void. Thread-safe.
//
// The compute thread takes steps in order and never waits for the network: streams read into the
// queue here, the last shard's answers leave through the caller's outbox, and a middle shard's
// answers pass by in RelayStage.
class ShardHost {
 public:
  // Reports traced requests to `tracer`, which outlives it; null: none.
  explicit ShardHost(const Tracer* tracer = nullptr) : traces_(tracer) {}
  ~ShardHost();
  ShardHost(const ShardHost&) = delete;
  ShardHost& operator=(const ShardHost&) = delete;

  // Where the loaded shard lies in the model.
  struct Place {
    std::int32_t last_layer = 0;
    RelayStage* relay = nullptr;  // within `stage`; null at the end of the chain
  };
  // Begins to serve. Called once; until then callers are told to try again.
  void Serve(std::unique_ptr<Stage> stage, Place place);

  // A caller's hello. OK: it will be welcomed or ended. Otherwise why it is refused.
  absl::Status Begin(std::shared_ptr<ShardCaller> caller, const internal::v1::Hello& hello)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // A step of the present caller; a step of an older one is dropped. Errors void the stream.
  absl::Status Enqueue(const std::shared_ptr<ShardCaller>& caller,
                       const internal::v1::StepRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  // The caller is gone.
  void Forget(const ShardCaller* caller) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the present caller once no step came for `quiet`, or at `deadline`, and refuses others.
  void Drain(Duration quiet, TimePoint deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  struct State {
    bool loaded = false;
    bool connected = false;
    std::int32_t rank = 1;  // place in the chain, as far as callers have told
    std::int32_t depth = 1;
    std::int32_t kv_blocks = 0;
  };
  [[nodiscard]] State state() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Task {
    std::shared_ptr<ShardCaller> caller;
    std::variant<internal::v1::Hello, Step> work;
  };

  void Loop();
  std::optional<Task> TakeTask() ABSL_LOCKS_EXCLUDED(mutex_);
  void FormGroup(const std::shared_ptr<ShardCaller>& caller, const internal::v1::Hello& hello);
  void Compute(const std::shared_ptr<ShardCaller>& caller, Step step) ABSL_LOCKS_EXCLUDED(mutex_);
  // After a failure: nothing of this caller counts any more.
  void Fail(const std::shared_ptr<ShardCaller>& caller, const absl::Status& why);

  mutable Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<StageInfo> info_ ABSL_GUARDED_BY(mutex_);  // set by Serve
  std::uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  std::int32_t rank_ ABSL_GUARDED_BY(mutex_) = 1;
  TimePoint last_step_ ABSL_GUARDED_BY(mutex_){};
  std::shared_ptr<ShardCaller> caller_ ABSL_GUARDED_BY(mutex_);
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);

  // Set by Serve before the thread starts, then the thread's own.
  std::unique_ptr<Stage> stage_;
  Place place_;
  ShardTraces traces_;
  std::thread thread_;
};

}  // namespace yangtuo
