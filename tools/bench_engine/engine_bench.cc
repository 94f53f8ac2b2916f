#include "tools/bench_engine/engine_bench.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/model/stage.h"

namespace yangtuo {
namespace {

constexpr std::int32_t kDecodePrompt = 32;

std::int64_t AnonymousBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    std::int64_t kilobytes = 0;
    if (words >> key >> kilobytes && key == "RssAnon:") {
      return kilobytes * 1024;
    }
  }
  return 0;
}

TokenId MadeUpToken(std::int32_t index, std::int32_t vocab) {
  return static_cast<TokenId>((std::int64_t{index} * 7919 + 300) % vocab);
}

// A stage with what its steps and sequences are numbered by.
struct NumberedStage {
  Stage& stage;
  std::uint64_t steps = 0;
  SequenceId sequences = 0;
};

// Sequences of a stage with their tokens and blocks, computed step by step.
class Sequences {
 public:
  Sequences(NumberedStage& stage, std::int32_t count, std::int32_t prompt, std::int32_t most)
      : stage_(stage), blocks_each_((most + kKvBlockSize - 1) / kKvBlockSize) {
    for (std::int32_t s = 0; s < count; ++s) {
      SequenceOpen open;
      open.id = ++stage.sequences;
      open.sampling.temperature = 0.0F;
      for (std::int32_t i = 0; i < prompt; ++i) {
        open.prompt_ids.push_back(MadeUpToken(s * prompt + i, stage.stage.info().vocab));
      }
      opens_.push_back(std::move(open));
      done_.push_back(0);
      next_.push_back(0);
    }
  }

  // All of sequence `s`'s prompt, in one step.
  absl::Status Prefill(std::int32_t s) {
    return PrefillFrom(s, 0, static_cast<std::int32_t>(PromptOf(s).size()));
  }
  // The prompt's tokens from `first` on, in steps of `chunk`; what precedes them is in the blocks
  // already.
  absl::Status PrefillFrom(std::int32_t s, std::int32_t first, std::int32_t chunk) {
    const std::vector<TokenId>& prompt = PromptOf(s);
    done_[static_cast<std::size_t>(s)] = first;
    const auto size = static_cast<std::int32_t>(prompt.size());
    for (std::int32_t at = first; at < size; at += chunk) {
      Step step;
      if (at == first) {
        step.opens.push_back(opens_[static_cast<std::size_t>(s)]);
      }
      step.rows.push_back(
          RowsOf(s, {prompt.begin() + at, prompt.begin() + std::min(size, at + chunk)}));
      step.rows.back().want_output = at + chunk >= size;
      YANGTUO_RETURN_IF_ERROR(Run(std::move(step)));
    }
    return absl::OkStatus();
  }

  // One token of every sequence.
  absl::Status Decode() {
    Step step;
    for (std::size_t s = 0; s < opens_.size(); ++s) {
      step.rows.push_back(RowsOf(static_cast<std::int32_t>(s), {next_[s]}));
    }
    return Run(std::move(step));
  }

  absl::Status Close() {
    Step step;
    for (const SequenceOpen& open : opens_) {
      step.closes.push_back(open.id);
    }
    return Run(std::move(step));
  }

 private:
  [[nodiscard]] const std::vector<TokenId>& PromptOf(std::int32_t s) const {
    return opens_[static_cast<std::size_t>(s)].prompt_ids;
  }

  StepRows RowsOf(std::int32_t s, std::vector<TokenId> ids) {
    const auto at = static_cast<std::size_t>(s);
    StepRows rows;
    rows.id = opens_[at].id;
    rows.first_position = done_[at];
    done_[at] += static_cast<std::int32_t>(ids.size());
    rows.token_ids = std::move(ids);
    for (std::int32_t b = 0; b < (done_[at] + kKvBlockSize - 1) / kKvBlockSize; ++b) {
      rows.kv_blocks.push_back(s * blocks_each_ + b);
    }
    rows.want_output = true;
    return rows;
  }

  absl::Status Run(Step step) {
    step.id = ++stage_.steps;
    YANGTUO_RETURN_IF_ERROR(stage_.stage.Submit(std::move(step)));
    YANGTUO_ASSIGN_OR_RETURN(const StepResult result, stage_.stage.Next());
    for (const SequenceFailure& failure : result.failures) {
      return failure.status;
    }
    for (const SequenceSample& sample : result.samples) {
      for (std::size_t s = 0; s < opens_.size(); ++s) {
        if (opens_[s].id == sample.id) {
          next_[s] = sample.token.id;
        }
      }
    }
    return absl::OkStatus();
  }

  NumberedStage& stage_;
  std::int32_t blocks_each_;
  std::vector<SequenceOpen> opens_;
  std::vector<std::int32_t> done_;
  std::vector<TokenId> next_;
};

// Seven eighths: 448 of 512.
std::int32_t CachedTokens(std::int32_t prompt) { return prompt - std::max(1, prompt / 8); }

double Seconds(TimePoint begin) { return ToSeconds(SteadyClock().Now() - begin); }

// Seconds that the prompt takes from its token `first` on. With `first` > 0 the tokens before it
// must have been computed by the last call.
absl::StatusOr<double> MeasurePrefill(NumberedStage& stage, const EngineBenchOptions& options,
                                      std::int32_t first) {
  double best = std::numeric_limits<double>::infinity();
  for (std::int32_t i = 0; i < options.repeats; ++i) {
    Sequences one(stage, 1, options.prompt_tokens, options.prompt_tokens);
    const TimePoint begin = SteadyClock().Now();
    YANGTUO_RETURN_IF_ERROR(one.PrefillFrom(0, first, options.prompt_tokens));
    best = std::min(best, Seconds(begin));
    YANGTUO_RETURN_IF_ERROR(one.Close());
  }
  return best;
}

absl::StatusOr<ContextSpeed> MeasureContext(NumberedStage& stage, const EngineBenchOptions& options,
                                            std::int32_t tokens) {
  ContextSpeed speed{.tokens = tokens, .decoded = options.decode_tokens};
  for (std::int32_t i = 0; i < options.repeats; ++i) {
    Sequences one(stage, 1, tokens, tokens + options.decode_tokens);
    TimePoint begin = SteadyClock().Now();
    YANGTUO_RETURN_IF_ERROR(one.PrefillFrom(0, 0, options.prompt_tokens));
    const double prefill = static_cast<double>(tokens) / Seconds(begin);
    begin = SteadyClock().Now();
    for (std::int32_t step = 0; step < options.decode_tokens; ++step) {
      YANGTUO_RETURN_IF_ERROR(one.Decode());
    }
    const double decode = static_cast<double>(options.decode_tokens) / Seconds(begin);
    speed.prefill_tokens_per_second = std::max(speed.prefill_tokens_per_second, prefill);
    speed.decode_tokens_per_second = std::max(speed.decode_tokens_per_second, decode);
    YANGTUO_RETURN_IF_ERROR(one.Close());
  }
  return speed;
}

absl::StatusOr<DecodeSpeed> MeasureDecode(NumberedStage& stage, const EngineBenchOptions& options,
                                          std::int32_t count) {
  DecodeSpeed speed{.sequences = count};
  const std::int32_t steps = options.decode_tokens;
  for (std::int32_t i = 0; i < options.repeats; ++i) {
    Sequences sequences(stage, count, kDecodePrompt, kDecodePrompt + steps);
    for (std::int32_t s = 0; s < count; ++s) {
      YANGTUO_RETURN_IF_ERROR(sequences.Prefill(s));
    }
    const TimePoint begin = SteadyClock().Now();
    for (std::int32_t step = 0; step < steps; ++step) {
      YANGTUO_RETURN_IF_ERROR(sequences.Decode());
    }
    const double rate = static_cast<double>(count * steps) / Seconds(begin);
    speed.tokens_per_second = std::max(speed.tokens_per_second, rate);
    YANGTUO_RETURN_IF_ERROR(sequences.Close());
  }
  return speed;
}

}  // namespace

absl::StatusOr<EngineSpeed> MeasureEngine(
    const EngineBenchOptions& options, const std::function<void(const std::string&)>& on_progress) {
  StageOptions stage_options = options.stage;
  const std::int32_t most = *std::max_element(options.batches.begin(), options.batches.end());
  const std::int32_t each = kDecodePrompt + options.decode_tokens;
  const auto blocks = [](std::int32_t tokens) {
    return (tokens + kKvBlockSize - 1) / kKvBlockSize;
  };
  std::int32_t longest = std::max(options.prompt_tokens, each);
  for (const std::int32_t context : options.contexts) {
    longest = std::max(longest, context + options.decode_tokens);
  }
  stage_options.context_tokens = longest;
  stage_options.max_step_tokens = std::max(options.prompt_tokens, most);
  stage_options.kv_blocks = std::max(blocks(longest), most * blocks(each));
  on_progress(absl::StrFormat("loading %s", options.stage.model.string()));
  const TimePoint begin = SteadyClock().Now();
  YANGTUO_ASSIGN_OR_RETURN(const std::unique_ptr<Stage> stage,
                           LoadLlamaStage(stage_options, nullptr));
  EngineSpeed speed{.weight_type = stage->info().weight_type,
                    .numerics = stage->info().numerics,
                    .threads = stage_options.threads > 0 ? stage_options.threads
                                                         : GetCpuLimits().compute_threads(),
                    .load_seconds = Seconds(begin),
                    .anonymous_bytes = AnonymousBytes(),
                    .weight_bytes = stage->info().weight_bytes,
                    .kv_token_bytes = stage->info().kv_token_bytes,
                    .prompt_tokens = options.prompt_tokens,
                    .prefill_tokens_per_second = 0.0,
                    .decode = {},
                    .contexts = {}};
  NumberedStage numbered{.stage = *stage};
  on_progress(absl::StrFormat("prefill of %d", options.prompt_tokens));
  YANGTUO_ASSIGN_OR_RETURN(speed.prefill_seconds, MeasurePrefill(numbered, options, 0));
  speed.prefill_tokens_per_second = options.prompt_tokens / speed.prefill_seconds;
  YANGTUO_ASSIGN_OR_RETURN(speed.cached_prefill_seconds,
                           MeasurePrefill(numbered, options, CachedTokens(options.prompt_tokens)));
  for (const std::int32_t count : options.batches) {
    on_progress(absl::StrFormat("decode of %d together", count));
    YANGTUO_ASSIGN_OR_RETURN(const DecodeSpeed decode, MeasureDecode(numbered, options, count));
    speed.decode.push_back(decode);
  }
  for (const std::int32_t context : options.contexts) {
    on_progress(absl::StrFormat("context of %d", context));
    YANGTUO_ASSIGN_OR_RETURN(const ContextSpeed at, MeasureContext(numbered, options, context));
    speed.contexts.push_back(at);
  }
  return speed;
}

}  // namespace yangtuo
