#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "inference_core/base/clock.h"
#include "inference_core/engine/engine.h"
#include "services/inference/remote_stage.h"
#include "services/inference/ticker.h"

namespace yangtuo {

// Whether a leading worker can serve: its engine computed a first token, its stage works, and all
// shards are connected.
//
// An idle engine does not look at its stage. So when the next shard is lost while nothing runs,
// this submits a request of one token, which makes the engine form the group anew.
class Readiness final : public Ticking {
 public:
  struct Options {
    TokenId probe_token = 1;
    // The chain behind the engine's stage; null: there is none.
    std::shared_ptr<const ShardPresence> next;
    // Runs on the ticker's thread at every change.
    std::function<void(bool)> on_change;
  };
  // `engine` and `clock` outlive every tick; the engine ends before this does, so that an
  // unfinished probe can.
  Readiness(Engine& engine, const Clock& clock, Options options);
  ~Readiness() override;

  void OnTick(TimePoint now) override;

 private:
  class Probe;

  Engine& engine_;
  const Clock& clock_;
  const Options options_;
  const std::unique_ptr<Probe> probe_;
  bool ready_ = false;
  std::optional<TimePoint> last_probe_;
};

}  // namespace yangtuo
