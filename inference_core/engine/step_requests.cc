// What comes from other threads: requests, cancellations, questions. The front of StepLoop.

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/engine/request_check.h"
#include "inference_core/engine/step_loop.h"

namespace yangtuo {
namespace {

// Keys of the full blocks of a request's tokens. On the caller's thread: the loop's is dear.
void AddBlockKeys(const PrefixScheme& scheme, Sequence& sequence) {
  BlockKeyHasher hasher;
  sequence.first_parent = SaltedBlockKey(scheme.root, sequence.request.cache_salt);
  const auto size = static_cast<std::size_t>(scheme.block_size);
  const std::span<const TokenId> known(sequence.known);
  BlockKey parent = sequence.first_parent;
  for (std::size_t end = size; end <= known.size(); end += size) {
    parent = sequence.block_keys.emplace_back(hasher.Next(parent, known.subspan(end - size, size)));
  }
}

}  // namespace

absl::StatusOr<SequenceId> StepLoop::Submit(EngineRequest request, SequenceSink* sink) {
  YANGTUO_RETURN_IF_ERROR(CheckRequest(request, info_));
  request.sampling.end_ids = request.stop_ids;
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt_ids.size());
  const std::int32_t limit = TokenLimit(request, info_);
  auto sequence = std::make_unique<Sequence>(0, std::move(request), sink, clock_.Now(), pool_);
  sequence->max_tokens = limit;
  if (SharesBlocks(*sequence)) {
    AddBlockKeys(*prefix_scheme_, *sequence);
  }
  SequenceId id = 0;
  {
    const MutexLock lock(mutex_);
    if (!accepting_) {
      return absl::UnavailableError("this worker is shutting down and takes no new requests");
    }
    if (!board_.stage_ok()) {
      return absl::UnavailableError("a shard of this worker group is lost and being reconnected");
    }
    if (live_ >= std::int64_t{options_.max_running} + options_.max_waiting) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the queue is full: %d requests run or wait (max_running %d, "
                          "max_waiting %d)",
                          live_, options_.max_running, options_.max_waiting));
    }
    if (waiting_tokens_ > 0 && waiting_tokens_ + prompt_tokens > options_.max_waiting_tokens) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the queue is full: %d prompt tokens wait already (max_waiting_tokens "
                          "%d)",
                          waiting_tokens_, options_.max_waiting_tokens));
    }
    id = next_id_++;
    sequence->id = id;
    submitted_.push_back(std::move(sequence));
    ++live_;
    ++unfinished_;
    waiting_tokens_ += prompt_tokens;
    has_commands_ = true;
  }
  wake_.NotifyOne();
  return id;
}

void StepLoop::Cancel(SequenceId id) {
  {
    const MutexLock lock(mutex_);
    cancelled_.push_back(id);
    has_commands_ = true;
  }
  wake_.NotifyOne();
}

EngineLoad StepLoop::load() const {
  const MutexLock lock(mutex_);
  EngineLoad load = board_.Read();
  load.kv_blocks_total = info_.kv_blocks;
  load.tokens_per_second = rate_.PerSecond(clock_.Now());
  for (const auto& sequence : submitted_) {
    ++load.waiting;
    load.pending_prompt_tokens += sequence->num_prompt();
  }
  return load;
}

void StepLoop::StopAccepting() {
  const MutexLock lock(mutex_);
  accepting_ = false;
}

bool StepLoop::WaitUntilIdle(TimePoint deadline) {
  const MutexLock lock(mutex_);
  while (unfinished_ > 0) {
    if (!idle_.WaitUntil(mutex_, deadline) && std::chrono::steady_clock::now() >= deadline) {
      return unfinished_ == 0;
    }
  }
  return true;
}

}  // namespace yangtuo
