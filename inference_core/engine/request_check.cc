#include "inference_core/engine/request_check.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

std::int64_t KvPositions(const StageInfo& info) {
  return std::int64_t{info.kv_blocks} * info.kv_block_size;
}

absl::Status CheckId(TokenId id, const StageInfo& info) {
  if (id < 0 || id >= info.vocab) {
    return absl::InvalidArgumentError(
        absl::StrFormat("token id %d is outside the vocabulary of %d tokens", id, info.vocab));
  }
  return absl::OkStatus();
}

absl::Status CheckIds(const EngineRequest& request, const StageInfo& info) {
  for (const std::vector<TokenId>* ids :
       {&request.prompt_ids, &request.resumed_ids, &request.stop_ids}) {
    for (const TokenId id : *ids) {
      YANGTUO_RETURN_IF_ERROR(CheckId(id, info));
    }
  }
  for (const auto& bias : request.sampling.logit_bias) {
    YANGTUO_RETURN_IF_ERROR(CheckId(bias.first, info));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckOptions(const EngineOptions& options, const StageInfo& info) {
  if (info.vocab < 1 || info.context_tokens < 1 || info.kv_blocks < 1 || info.kv_block_size < 1 ||
      info.depth < 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the stage has vocab %d, context_tokens %d, kv_blocks %d, kv_block_size %d, depth %d; all "
        "must be positive",
        info.vocab, info.context_tokens, info.kv_blocks, info.kv_block_size, info.depth));
  }
  if (options.step_tokens < 1 || options.step_tokens > info.max_step_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step_tokens is %d; the stage takes 1..%d rows a step", options.step_tokens,
                        info.max_step_tokens));
  }
  if (options.target_step < Duration::zero() || options.least_prompt_rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("engine limits: target_step %g s, least_prompt_rows %d; expected no "
                        "negative time and at least one row",
                        ToSeconds(options.target_step), options.least_prompt_rows));
  }
  if (options.prompt_chunk < 0 || options.max_running < 1 || options.max_waiting < 0 ||
      options.max_waiting_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "engine limits: prompt_chunk %d, max_running %d, max_waiting %d, max_waiting_tokens %d; "
        "max_running must be positive, the others not negative",
        options.prompt_chunk, options.max_running, options.max_waiting,
        options.max_waiting_tokens));
  }
  return absl::OkStatus();
}

absl::Status CheckRequest(const EngineRequest& request, const StageInfo& info) {
  if (request.prompt_ids.empty()) {
    return absl::InvalidArgumentError("the prompt has no tokens; it needs at least one");
  }
  if (request.task == SequenceTask::kEmbed && !request.resumed_ids.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("an embedding has no answer to resume, but %d resumed ids were given",
                        request.resumed_ids.size()));
  }
  if (request.constraint.has_value()) {
    if (request.task == SequenceTask::kEmbed || request.stop_ids.empty()) {
      return absl::InvalidArgumentError(
          "a constraint is of an answer that ends with an end-of-text token: there is none here, "
          "or it is ignored");
    }
    if (!info.constrains) {
      return absl::FailedPreconditionError(
          "this worker group cannot hold answers to a constraint: one of its workers found "
          "no tokenizer beside the model, or one without a token for every byte");
    }
  }
  YANGTUO_RETURN_IF_ERROR(CheckIds(request, info));
  const std::size_t known = request.prompt_ids.size() + request.resumed_ids.size();
  // An embedding needs a place for every position, an answer room for one more token.
  const std::size_t wanted = known + (request.task == SequenceTask::kGenerate ? 1 : 0);
  if (wanted > static_cast<std::size_t>(info.context_tokens)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the prompt has %d tokens; the context holds %d, the answer included",
                        known, info.context_tokens));
  }
  if (static_cast<std::int64_t>(known) > KvPositions(info)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the prompt has %d tokens; the KV cache of this worker holds %d", known,
                        KvPositions(info)));
  }
  return absl::OkStatus();
}

std::int32_t TokenLimit(const EngineRequest& request, const StageInfo& info) {
  // The last token of an answer is never computed itself, so it needs no place in a block.
  std::int64_t limit = std::min<std::int64_t>(info.context_tokens, KvPositions(info) + 1);
  if (request.max_new_tokens.has_value()) {
    limit = std::min<std::int64_t>(
        limit, static_cast<std::int64_t>(request.prompt_ids.size()) + *request.max_new_tokens);
  }
  return static_cast<std::int32_t>(limit);
}

}  // namespace yangtuo
