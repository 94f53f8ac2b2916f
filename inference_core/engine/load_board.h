#pragma once

#include <atomic>
#include <cstdint>

#include "inference_core/engine/engine.h"

namespace yangtuo {

// The engine's load, written by its thread and read by any, without waiting. Every number is one
// that was true; two of them may be of different moments.
class LoadBoard {
 public:
  void Show(const EngineLoad& load) {
    running_.store(load.running);
    waiting_.store(load.waiting);
    kv_blocks_free_.store(load.kv_blocks_free);
    kv_blocks_cached_.store(load.kv_blocks_cached);
    pending_prompt_tokens_.store(load.pending_prompt_tokens);
    stage_ok_.store(load.stage_ok);
  }
  // Writer only: sequences that came to wait.
  void AddWaiting(std::int32_t sequences, std::int64_t prompt_tokens) {
    waiting_.fetch_add(sequences);
    pending_prompt_tokens_.fetch_add(prompt_tokens);
  }

  // All but the size of the cache and the rate.
  [[nodiscard]] EngineLoad Read() const {
    EngineLoad load;
    load.running = running_.load();
    load.waiting = waiting_.load();
    load.kv_blocks_free = kv_blocks_free_.load();
    load.kv_blocks_cached = kv_blocks_cached_.load();
    load.pending_prompt_tokens = pending_prompt_tokens_.load();
    load.stage_ok = stage_ok_.load();
    return load;
  }
  [[nodiscard]] bool stage_ok() const { return stage_ok_.load(); }

 private:
  std::atomic<std::int32_t> running_ = 0;
  std::atomic<std::int32_t> waiting_ = 0;
  std::atomic<std::int32_t> kv_blocks_free_ = 0;
  std::atomic<std::int32_t> kv_blocks_cached_ = 0;
  std::atomic<std::int64_t> pending_prompt_tokens_ = 0;
  std::atomic<bool> stage_ok_ = true;
};

}  // namespace yangtuo
