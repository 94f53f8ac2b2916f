#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "inference_core/engine/engine.h"
#include "inference_core/kv_cache/block_pool.h"
#include "inference_core/scheduler/scheduler.h"

namespace yangtuo {

// One request in the engine. Owned and touched by the step loop alone, once Submit has handed it
// over.
struct Sequence {
  Sequence(SequenceId sequence_id, EngineRequest taken, SequenceSink* receiver, TimePoint arrival,
           BlockPool& pool)
      : id(sequence_id),
        request(std::move(taken)),
        sink(receiver),
        submitted(arrival),
        known(request.prompt_ids),
        blocks(pool) {
    known.insert(known.end(), request.resumed_ids.begin(), request.resumed_ids.end());
  }

  [[nodiscard]] std::int32_t num_known() const { return static_cast<std::int32_t>(known.size()); }
  [[nodiscard]] std::int32_t num_prompt() const {
    return static_cast<std::int32_t>(request.prompt_ids.size());
  }
  // Tokens of the answer, resumed ones included.
  [[nodiscard]] std::int32_t num_answer() const { return num_known() - num_prompt(); }

  [[nodiscard]] ScheduledSequence Scheduled() const {
    return {.id = id,
            .priority = request.priority,
            .known_tokens = num_known(),
            .computed_tokens = computed,
            .blocks = blocks.size(),
            .steps_in_flight = steps_in_flight};
  }

  // Starts over: keys and values are gone, known tokens stay.
  void Rewind() {
    blocks.Release();
    computed = 0;
    running = false;
    open = false;
  }

  SequenceId id;
  EngineRequest request;
  SequenceSink* sink;
  TimePoint submitted;
  std::vector<TokenId> known;           // prompt and answer so far
  std::int32_t max_tokens = 0;          // prompt and answer may grow to this
  std::int32_t computed = 0;            // positions in blocks, steps in flight included
  std::int32_t generated = 0;           // answer tokens computed here, a stop token included
  std::int32_t logprobs_delivered = 0;  // entries of the prompt's log-probabilities
  std::int32_t steps_in_flight = 0;
  SequenceBlocks blocks;
  bool running = false;  // holds a place among max_running
  bool open = false;     // the head knows it
  std::optional<TimePoint> started;
};

}  // namespace yangtuo
