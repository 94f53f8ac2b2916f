#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "inference_core/base/clock.h"
#include "inference_core/model/stage.h"
#include "services/common/tracer.h"

namespace yangtuo {

// What traced requests cost a shard that does not lead: one span for all of a sequence's steps,
// under the leader's span of the request. The compute thread's own.
class ShardTraces {
 public:
  // Null: nothing is traced. It outlives this.
  explicit ShardTraces(const Tracer* tracer) : tracer_(tracer) {}

  // A step comes: its opens, closes and rows.
  void Begin(const Step& step, std::int32_t rank);
  // It was computed here.
  void Computed(TimePoint begin, TimePoint end);

  // Whether a sequence had steps since its last span. The close of a group's last sequence comes
  // with the next request only, so whoever waits long calls Flush; a sequence that goes on after
  // all gets another span.
  [[nodiscard]] bool pending() const;
  void Flush();
  // The group ends: nothing of it goes on.
  void EndAll();

 private:
  struct Traced {
    TraceContext parent;
    std::int64_t steps = 0;
    std::int64_t rows = 0;
    Duration compute{};
    TimePoint first{};
    TimePoint last{};
  };
  struct Part {
    SequenceId id;
    std::int64_t rows;
  };

  void Report(const Traced& traced) const;

  const Tracer* const tracer_;
  std::int32_t rank_ = 1;
  std::map<SequenceId, Traced> traced_;
  std::vector<Part> step_;  // of the step that is being computed
};

}  // namespace yangtuo
