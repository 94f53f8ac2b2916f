#include "inference_core/model/step_check.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <unordered_set>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/model/llama_stage.h"

namespace yangtuo {
namespace {

absl::Status CheckIds(std::span<const TokenId> ids, std::string_view what, SequenceId sequence,
                      std::int32_t vocab) {
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "sequence %d: %s id %d is outside the vocabulary of %d", sequence, what, id, vocab));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOpen(const SequenceOpen& open, const StepLimits& limits) {
  const auto tokens = static_cast<std::int64_t>(open.prompt_ids.size() + open.emitted_ids.size());
  if (open.prompt_ids.empty() || tokens > limits.context_tokens) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequence %d opens with %d prompt and %d answer tokens, expected at least "
        "one of the prompt and at most %d together",
        open.id, open.prompt_ids.size(), open.emitted_ids.size(), limits.context_tokens));
  }
  YANGTUO_RETURN_IF_ERROR(CheckIds(open.prompt_ids, "prompt", open.id, limits.vocab));
  YANGTUO_RETURN_IF_ERROR(CheckIds(open.emitted_ids, "answer", open.id, limits.vocab));
  const SamplingParams& sampling = open.sampling;
  YANGTUO_RETURN_IF_ERROR(CheckIds(sampling.end_ids, "end", open.id, limits.vocab));
  for (const auto& [id, bias] : sampling.logit_bias) {
    YANGTUO_RETURN_IF_ERROR(CheckIds({&id, 1}, "bias", open.id, limits.vocab));
    if (std::isnan(bias)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("sequence %d: the bias of id %d is not a number", open.id, id));
    }
  }
  const std::int32_t logprobs = sampling.logprobs.value_or(0);
  if (logprobs < 0 || logprobs > limits.vocab || sampling.top_k < 0 ||
      sampling.min_new_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequence %d: expected 0 to %d log-probabilities and no negative counts, found %d, top_k "
        "%d, min_new_tokens %d",
        open.id, limits.vocab, logprobs, sampling.top_k, sampling.min_new_tokens));
  }
  const bool numbers =
      sampling.temperature >= 0.0F && sampling.top_p >= 0.0F && sampling.min_p >= 0.0F &&
      sampling.repetition_penalty > 0.0F && std::isfinite(sampling.repetition_penalty) &&
      std::isfinite(sampling.presence_penalty) && std::isfinite(sampling.frequency_penalty);
  if (!numbers) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequence %d: a sampling parameter is negative or not a number: temperature %g, top_p %g, "
        "min_p %g, penalties %g, %g, %g",
        open.id, sampling.temperature, sampling.top_p, sampling.min_p, sampling.repetition_penalty,
        sampling.presence_penalty, sampling.frequency_penalty));
  }
  return absl::OkStatus();
}

absl::Status CheckRows(const StepRows& rows, const StepLimits& limits) {
  const auto count = static_cast<std::int64_t>(rows.token_ids.size());
  const std::int64_t end = rows.first_position + count;
  if (count == 0 || rows.first_position < 0 || end > limits.context_tokens) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequence %d: rows at positions [%d, %d), expected at least one row within [0, %d)",
        rows.id, rows.first_position, end, limits.context_tokens));
  }
  const std::int64_t blocks = (end + kKvBlockSize - 1) / kKvBlockSize;
  if (static_cast<std::int64_t>(rows.kv_blocks.size()) < blocks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("sequence %d: %d positions need %d KV blocks of %d, found %d", rows.id, end,
                        blocks, kKvBlockSize, rows.kv_blocks.size()));
  }
  for (const std::int32_t block : rows.kv_blocks) {
    if (block < 0 || block >= limits.kv_blocks) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "sequence %d: KV block %d, this stage has %d", rows.id, block, limits.kv_blocks));
    }
  }
  return CheckIds(rows.token_ids, "token", rows.id, limits.vocab);
}

}  // namespace

absl::Status CheckStep(const Step& step, const StepLimits& limits) {
  const std::int64_t tokens = step.num_tokens();
  if (tokens > limits.max_step_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step %d has %d rows, this stage takes at most %d", step.id, tokens,
                        limits.max_step_tokens));
  }
  const auto hidden = static_cast<std::int64_t>(step.hidden.size());
  if (hidden != tokens * limits.hidden) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step %d has %d hidden values for %d rows, expected %d each", step.id,
                        hidden, tokens, limits.hidden));
  }
  for (const SequenceOpen& open : step.opens) {
    YANGTUO_RETURN_IF_ERROR(CheckOpen(open, limits));
  }
  std::unordered_set<SequenceId> seen;
  for (const StepRows& rows : step.rows) {
    YANGTUO_RETURN_IF_ERROR(CheckRows(rows, limits));
    if (!seen.insert(rows.id).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("sequence %d appears twice in step %d", rows.id, step.id));
    }
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
