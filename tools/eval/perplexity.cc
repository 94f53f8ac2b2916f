#include "tools/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/model/stage.h"
#include "inference_core/tokenizer/tokenizer.h"

namespace yangtuo {
namespace {

// Tokens scored in one pass of the model: enough for full speed, little enough for memory.
constexpr std::int32_t kStepTokens = 512;
constexpr std::int32_t kLongestPiece = 2048;
// A document's last KV block is partly empty: blocks for so many documents a step beyond the
// tokens.
constexpr std::int32_t kSpareBlocks = 32;

// With its adapters, which may bring a tokenizer and a configuration.
absl::StatusOr<Checkpoint> OpenModel(const StageOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(options.model));
  return options.adapters.empty() ? std::move(checkpoint)
                                  : WithAdapters(std::move(checkpoint), options.adapters);
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const PerplexityOptions& options) {
  if (!options.tokenizer.empty()) {
    return Tokenizer::Load(options.tokenizer);
  }
  YANGTUO_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenModel(options.stage));
  if (!checkpoint.tokenizer_file.empty()) {
    return Tokenizer::Load(checkpoint.tokenizer_file);
  }
  if (checkpoint.tokenizer_model.empty()) {
    return absl::NotFoundError(absl::StrFormat("%s has no tokenizer: name one with --tokenizer",
                                               options.stage.model.string()));
  }
  return Tokenizer::FromModel(checkpoint.tokenizer_model, {}, options.stage.model.string());
}

// Collects pieces into steps and adds up what the stage says of their tokens.
class Scorer {
 public:
  explicit Scorer(Stage& stage) : stage_(stage) {}

  absl::Status Add(std::vector<TokenId> ids) {
    const auto tokens = static_cast<std::int32_t>(ids.size());
    const std::int32_t blocks = (tokens + kKvBlockSize - 1) / kKvBlockSize;
    if (step_.num_tokens() + tokens > stage_.info().max_step_tokens ||
        next_block_ + blocks > stage_.info().kv_blocks) {
      YANGTUO_RETURN_IF_ERROR(Flush());
    }
    SequenceOpen open;
    open.id = ++sequences_;
    open.prompt_ids = ids;
    open.sampling.logprobs = 0;
    open.prompt_logprobs = true;
    StepRows rows;
    rows.id = open.id;
    rows.token_ids = std::move(ids);
    for (std::int32_t b = 0; b < blocks; ++b) {
      rows.kv_blocks.push_back(next_block_++);
    }
    step_.opens.push_back(std::move(open));
    step_.rows.push_back(std::move(rows));
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (step_.rows.empty()) {
      return absl::OkStatus();
    }
    step_.id = ++steps_;
    std::vector<SequenceId> scored;
    for (const StepRows& rows : step_.rows) {
      scored.push_back(rows.id);
    }
    YANGTUO_RETURN_IF_ERROR(stage_.Submit(std::exchange(step_, Step{})));
    YANGTUO_ASSIGN_OR_RETURN(const StepResult result, stage_.Next());
    if (!result.failures.empty()) {
      return result.failures.front().status;
    }
    for (const PromptLogprobs& part : result.prompt_logprobs) {
      for (const SampledToken& token : part.entries) {
        nll_ -= static_cast<double>(token.logprob);
        ++tokens_;
      }
    }
    step_.closes = std::move(scored);
    next_block_ = 0;
    return absl::OkStatus();
  }

  [[nodiscard]] double nll() const { return nll_; }
  [[nodiscard]] std::int64_t tokens() const { return tokens_; }

 private:
  Stage& stage_;
  Step step_;  // the next one
  std::uint64_t steps_ = 0;
  SequenceId sequences_ = 0;
  std::int32_t next_block_ = 0;
  double nll_ = 0.0;
  std::int64_t tokens_ = 0;
};

absl::StatusOr<std::unique_ptr<Stage>> LoadStage(StageOptions options) {
  YANGTUO_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenModel(options));
  const std::int32_t piece = std::min(checkpoint.config.context_tokens, kLongestPiece);
  options.context_tokens = piece;
  options.max_step_tokens = std::max(piece, kStepTokens);
  options.kv_blocks = options.max_step_tokens / kKvBlockSize + kSpareBlocks;
  return LoadLlamaStage(options, nullptr);
}

}  // namespace

double Perplexity::value() const {
  return tokens == 0 ? 0.0 : std::exp(nll / static_cast<double>(tokens));
}

std::vector<std::string_view> SplitDocuments(std::string_view text, std::int32_t most) {
  std::vector<std::string_view> documents;
  while (!text.empty() && (most == 0 || documents.size() < static_cast<std::size_t>(most))) {
    const std::size_t end = std::min(text.find("\n\n"), text.size());
    if (end > 0) {
      documents.push_back(text.substr(0, end));
    }
    text.remove_prefix(std::min(end + 2, text.size()));
  }
  return documents;
}

absl::StatusOr<Perplexity> MeasurePerplexity(const PerplexityOptions& options,
                                             const TextProgress& on_progress) {
  YANGTUO_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(options));
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(options.text));
  // Lines of either kind of system end alike.
  const std::string text = absl::StrReplaceAll(
      {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, {{"\r\n", "\n"}});
  YANGTUO_ASSIGN_OR_RETURN(const std::unique_ptr<Stage> stage, LoadStage(options.stage));
  const auto longest = static_cast<std::size_t>(stage->info().context_tokens);
  Perplexity result{.weight_type = stage->info().weight_type, .numerics = stage->info().numerics};
  Scorer scorer(*stage);
  const std::vector<std::string_view> documents = SplitDocuments(text, options.documents);
  const auto position = [&](std::string_view document) {
    return document.data() + document.size() - text.data();
  };
  for (const std::string_view document : documents) {
    YANGTUO_ASSIGN_OR_RETURN(std::vector<TokenId> ids,
                             tokenizer->Encode(document, {.add_bos = true}));
    ids.push_back(tokenizer->eos_id());
    for (std::size_t first = 0; first < ids.size(); first += longest) {
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
      const std::size_t count = std::min(longest, ids.size() - first);
      YANGTUO_RETURN_IF_ERROR(scorer.Add({begin, begin + static_cast<std::ptrdiff_t>(count)}));
    }
    ++result.documents;
    on_progress(position(document), position(documents.back()));
  }
  YANGTUO_RETURN_IF_ERROR(scorer.Flush());
  result.nll = scorer.nll();
  result.tokens = scorer.tokens();
  if (result.tokens == 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has no text to score", options.text.string()));
  }
  return result;
}

}  // namespace yangtuo
