#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "inference_core/engine/engine.h"
#include "inference_core/kv_cache/block_key.h"
#include "inference_core/kv_cache/block_pool.h"
#include "inference_core/scheduler/tenant_ledger.h"

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

  // Leading positions that need not be computed here if somebody else has: one is always left, or
  // there would be no output; an embedding is the mean of all, and log-probabilities of the prompt
  // come from the rows before them.
  [[nodiscard]] std::int32_t MostReusable() const {
    if (request.task == SequenceTask::kEmbed) {
      return 0;
    }
    const bool scores_prompt = request.prompt_logprobs && logprobs_delivered < num_prompt() - 1;
    return std::min(num_known() - 1, scores_prompt ? logprobs_delivered : num_known());
  }

  // Memory for all that the sequence may grow to, so that a step takes none.
  void Reserve(std::int32_t block_size) {
    known.reserve(static_cast<std::size_t>(max_tokens));
    block_keys.reserve(static_cast<std::size_t>(max_tokens / block_size));
    blocks.Reserve(max_tokens);
  }

  // Starts over: keys and values are given up, known tokens stay.
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
  BlockKey first_parent{};              // of the chain
  std::vector<BlockKey> block_keys;     // of full blocks of known tokens, in order; maybe not all
  std::int32_t max_tokens = 0;          // prompt and answer may grow to this
  std::int32_t computed = 0;            // positions in blocks, steps in flight included
  std::int32_t generated = 0;           // answer tokens computed here, a stop token included
  std::int32_t logprobs_delivered = 0;  // entries of the prompt's log-probabilities
  std::int32_t steps_in_flight = 0;
  SequenceBlocks blocks;
  TenantLedger::Tenant tenant = 0;
  bool running = false;  // holds a place among max_running
  bool open = false;     // the head knows it
  std::optional<TimePoint> started;
  StepTotals totals;
};

}  // namespace yangtuo
