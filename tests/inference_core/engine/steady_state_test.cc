// What a decode step costs beside the stage: no memory and no lock. A program of its own: it counts
// every allocation and every lock of the process.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <memory>
#include <pthread.h>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define YANGTUO_COUNTS 0  // sanitizers have their own allocator and locks
#else
#define YANGTUO_COUNTS 1
#endif

namespace {

std::atomic<bool> counting = false;
std::atomic<std::int64_t> allocations = 0;
std::atomic<std::int64_t> locks = 0;

[[maybe_unused]] void Count(std::atomic<std::int64_t>& events) {
  if (counting.load(std::memory_order_relaxed)) {
    events.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

#if YANGTUO_COUNTS
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);

void* malloc(std::size_t size) {
  Count(allocations);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  Count(allocations);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
  Count(allocations);
  return __libc_realloc(memory, size);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto lock =
      reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  Count(locks);
  return lock(mutex);
}
}
#endif

namespace yangtuo {
namespace {

// Whether every request is with the engine; no step is answered before.
std::atomic<bool> all_submitted = false;

// Answers at once with an id that depends on nothing. Takes memory once a step, for its samples.
// Counting begins with one step and ends with another.
class InstantStage final : public Stage {
 public:
  InstantStage(std::int64_t first_step, std::int64_t last_step)
      : first_step_(first_step), last_step_(last_step) {
    info_.model_digest = "instant";
    info_.vocab = 100;
    info_.context_tokens = 4096;
    info_.kv_block_size = 32;
    info_.kv_blocks = 4096;
    info_.max_step_tokens = 256;
  }

  [[nodiscard]] const StageInfo& info() const override { return info_; }

  absl::Status Submit(Step step) override {
    while (!all_submitted.load()) {
      std::this_thread::yield();  // what a busy machine submits late would be counted
    }
    if (steps_ == first_step_) {
      counting = true;
    } else if (steps_ == last_step_) {
      counting = false;
    }
    ++steps_;
    result_.id = step.id;
    result_.samples.clear();
    result_.samples.reserve(step.rows.size());
    for (const StepRows& rows : step.rows) {
      if (rows.want_output) {
        result_.samples.push_back({.id = rows.id, .token = {.id = 7, .logprob = 0, .top = {}}});
      }
    }
    result_.rows = std::move(step.rows);
    return absl::OkStatus();
  }
  absl::StatusOr<StepResult> Next() override { return std::move(result_); }
  absl::Status Reset() override { return absl::OkStatus(); }

 private:
  StageInfo info_;
  const std::int64_t first_step_;
  const std::int64_t last_step_;
  std::int64_t steps_ = 0;
  StepResult result_;
};

class CountingSink final : public SequenceSink {
 public:
  void OnStarted(std::int32_t /*cached_prompt_tokens*/) override {}
  void OnToken(SampledToken /*token*/) override { ++tokens_; }
  void OnPromptLogprobs(std::span<const SampledToken> /*entries*/) override {}
  void OnEmbedding(std::vector<float> /*values*/) override {}
  void OnFinished(const SequenceOutcome& /*outcome*/) override { finished_ = true; }

  void Wait() const {
    while (!finished_) {
      std::this_thread::yield();
    }
  }
  [[nodiscard]] std::int32_t tokens() const { return tokens_; }

 private:
  std::atomic<std::int32_t> tokens_ = 0;
  std::atomic<bool> finished_ = false;
};

struct Counts {
  std::int64_t allocations = 0;
  std::int64_t locks = 0;
};

constexpr std::int32_t kSequences = 32;
constexpr std::int64_t kFirst = 100;
constexpr std::int64_t kLast = 900;

// What steps kFirst to kLast of kSequences decoding sequences took, the stage's samples not
// counted.
Counts CountDecodeSteps(PrefixCache cache) {
  allocations = 0;
  locks = 0;
  all_submitted = false;
  const SteadyClock clock;
  auto engine = Engine::Create({.prefix_cache = cache},
                               std::make_unique<InstantStage>(kFirst, kLast), clock, {});
  EXPECT_TRUE(engine.ok()) << engine.status();
  std::vector<CountingSink> sinks(kSequences);
  for (std::int32_t i = 0; i < kSequences; ++i) {
    EngineRequest request;
    request.prompt_ids = {i, i + 1, i + 2};
    request.max_new_tokens = 1000;
    EXPECT_TRUE((*engine)->Submit(std::move(request), &sinks[static_cast<std::size_t>(i)]).ok());
  }
  all_submitted = true;
  for (const CountingSink& sink : sinks) {
    sink.Wait();
    EXPECT_EQ(sink.tokens(), 1000);
  }
  return {.allocations = allocations - (kLast - kFirst), .locks = locks};
}

TEST(SteadyStateTest, DecodingTakesNoMemoryAndNoLock) {
  if (YANGTUO_COUNTS == 0) {
    GTEST_SKIP() << "a sanitizer counts otherwise";
  }
  const Counts counts = CountDecodeSteps(PrefixCache::kOff);
  EXPECT_EQ(counts.allocations, 0);
  EXPECT_EQ(counts.locks, 0);
}

TEST(SteadyStateTest, EveryBlockThatFillsTakesTheMemoryOfOneDigestAndNoLock) {
  if (YANGTUO_COUNTS == 0) {
    GTEST_SKIP() << "a sanitizer counts otherwise";
  }
  const Counts counts = CountDecodeSteps(PrefixCache::kOn);
  // OpenSSL 3 renews its state for every digest.
  EXPECT_EQ(counts.allocations, kSequences * (kLast - kFirst) / 32);
  EXPECT_EQ(counts.locks, 0);
}

}  // namespace
}  // namespace yangtuo
