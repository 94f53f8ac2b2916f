#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/model/stage.h"

namespace yangtuo::testing {

// A stage whose "model" is a hash: the next token depends on every token of the sequence, read back
// through the block table from the blocks that earlier steps wrote. A wrong table, a wrong
// position, a block that was reused too early or a position that was not computed changes the
// answer. A block that somebody writes while another sequence still reads it fails the step.
//
// Steps are executed when they are submitted and answered by Next, as a pipeline of `depth` does.
class FakeStage final : public Stage {
 public:
  struct Options {
    std::int32_t vocab = 1000;
    std::int32_t context_tokens = 512;
    std::int32_t kv_blocks = 64;
    std::int32_t kv_block_size = 4;
    std::int32_t max_step_tokens = 64;
    std::int32_t depth = 1;
    // Steps (counted from 1 over the stage's life) whose Next says that a peer is lost, and how
    // many Resets fail before one succeeds.
    std::set<std::int64_t> lost_at = {};
    std::int32_t failing_resets = 0;
    // From this step on, every Submit says that a peer is lost, though Resets succeed; 0: never.
    std::int64_t refuses_from = 0;
    // Sequences with this token among their rows make the whole step fail with INTERNAL.
    std::optional<TokenId> poison = std::nullopt;
    // Sequences with this token among their rows fail with INTERNAL, alone.
    std::optional<TokenId> broken = std::nullopt;
    // Sequences with this token among their rows get no output.
    std::optional<TokenId> forgotten = std::nullopt;
    // Called with every step that is submitted, on the engine's thread. May be empty.
    std::function<void(const Step&)> on_submit = {};
    // Called at the beginning of every Next, on the engine's thread; may wait. May be empty.
    std::function<void()> before_next = {};
  };

  explicit FakeStage(const Options& options) : options_(options) {
    info_.context_tokens = options.context_tokens;
    info_.vocab = options.vocab;
    info_.kv_blocks = options.kv_blocks;
    info_.kv_block_size = options.kv_block_size;
    info_.max_step_tokens = options.max_step_tokens;
    info_.depth = options.depth;
    blocks_.assign(static_cast<std::size_t>(options.kv_blocks),
                   std::vector<Position>(static_cast<std::size_t>(options.kv_block_size)));
  }

  // The answer that any schedule must give.
  static std::vector<TokenId> Expected(const Options& options, std::vector<TokenId> tokens,
                                       std::uint64_t seed, std::int32_t count) {
    std::vector<TokenId> answer;
    while (static_cast<std::int32_t>(answer.size()) < count) {
      const TokenId next = NextToken(tokens, seed, options.vocab);
      tokens.push_back(next);
      answer.push_back(next);
    }
    return answer;
  }

  [[nodiscard]] const StageInfo& info() const override { return info_; }

  absl::Status Submit(Step step) override {
    ++steps_;
    if (options_.on_submit) {
      options_.on_submit(step);
    }
    if (options_.refuses_from > 0 && steps_ >= options_.refuses_from) {
      return absl::UnavailableError("the next shard closed the stream");
    }
    if (static_cast<std::int32_t>(results_.size()) >= options_.depth) {
      return absl::InternalError("more steps in flight than stages");
    }
    if (step.num_tokens() < 1 || step.num_tokens() > options_.max_step_tokens) {
      return absl::InternalError(absl::StrFormat("a step of %d rows", step.num_tokens()));
    }
    for (SequenceOpen& open : step.opens) {
      const SequenceId id = open.id;
      open_.insert_or_assign(id, std::move(open));
      read_[id].clear();
    }
    for (const SequenceId id : step.closes) {
      open_.erase(id);
      read_.erase(id);
    }
    StepResult result;
    result.id = step.id;
    for (const StepRows& rows : step.rows) {
      if (const absl::Status status = Compute(rows, result); !status.ok()) {
        return status;
      }
    }
    results_.push_back(std::move(result));
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Next() override {
    if (options_.before_next) {
      options_.before_next();
    }
    if (results_.empty()) {
      return absl::FailedPreconditionError("no step is in flight");
    }
    if (options_.lost_at.erase(steps_) > 0) {
      return absl::UnavailableError("the next shard is lost");
    }
    StepResult result = std::move(results_.front());
    results_.pop_front();
    return result;
  }

  absl::Status Reset() override {
    results_.clear();
    open_.clear();
    read_.clear();
    for (std::vector<Position>& block : blocks_) {
      std::fill(block.begin(), block.end(), Position());
    }
    if (options_.failing_resets > 0) {
      --options_.failing_resets;
      return absl::UnavailableError("the next shard does not answer");
    }
    return absl::OkStatus();
  }

 private:
  struct Position {
    TokenId token = -1;
    std::int64_t write = 0;  // which one it was, of all
  };

  static TokenId NextToken(const std::vector<TokenId>& tokens, std::uint64_t seed,
                           std::int32_t vocab) {
    std::uint64_t hash = seed ^ 0x9E3779B97F4A7C15U;
    for (const TokenId token : tokens) {
      hash = (hash ^ static_cast<std::uint64_t>(token)) * 0xBF58476D1CE4E5B9U;
      hash ^= hash >> 29U;
    }
    // Id 0 is the tests' stop token; ordinary hashes avoid it.
    return static_cast<TokenId>(1 + hash % static_cast<std::uint64_t>(vocab - 1));
  }

  absl::Status Compute(const StepRows& rows, StepResult& result) {
    const auto found = open_.find(rows.id);
    if (found == open_.end()) {
      return absl::InternalError(
          absl::StrFormat("rows of sequence %d, which is not open", rows.id));
    }
    const auto holds = [&rows](const std::optional<TokenId>& token) {
      return token.has_value() && std::find(rows.token_ids.begin(), rows.token_ids.end(), *token) !=
                                      rows.token_ids.end();
    };
    if (holds(options_.poison)) {
      return absl::InternalError("a hidden state is not a number");
    }
    const bool answers = rows.want_output && !holds(options_.forgotten);
    const auto end = static_cast<std::size_t>(rows.first_position) + rows.token_ids.size();
    const auto size = static_cast<std::size_t>(options_.kv_block_size);
    if (rows.kv_blocks.size() * size < end) {
      return absl::InternalError("a block table that is too short");
    }
    for (std::size_t i = 0; i < rows.token_ids.size(); ++i) {
      const std::size_t position = static_cast<std::size_t>(rows.first_position) + i;
      Slot(rows, position) = {.token = rows.token_ids[i], .write = ++writes_};
    }
    std::vector<TokenId> tokens;
    std::vector<std::int64_t>& read = read_[rows.id];
    for (std::size_t position = 0; position < end; ++position) {
      const Position& slot = Slot(rows, position);
      tokens.push_back(slot.token);
      if (position == read.size()) {
        read.push_back(slot.write);
      } else if (read[position] != slot.write) {
        return absl::InternalError(absl::StrFormat(
            "position %d of sequence %d was written by somebody else", position, rows.id));
      }
    }
    if (holds(options_.broken)) {
      result.failures.push_back(
          {.id = rows.id, .status = absl::InternalError("logits that are not finite numbers")});
      return absl::OkStatus();
    }
    const SequenceOpen& open = found->second;
    if (open.prompt_logprobs) {
      PromptLogprobs part{.id = rows.id, .first_position = rows.first_position + 1, .entries = {}};
      for (std::size_t p = static_cast<std::size_t>(rows.first_position) + 1;
           p <= end && p < open.prompt_ids.size(); ++p) {
        part.entries.push_back({.id = open.prompt_ids[p], .logprob = -1.0F, .top = {}});
      }
      result.prompt_logprobs.push_back(std::move(part));
    }
    if (answers && open.task == SequenceTask::kEmbed) {
      result.embeddings.push_back(
          {.id = rows.id, .values = {static_cast<float>(NextToken(tokens, 0, options_.vocab))}});
    } else if (answers) {
      result.samples.push_back(
          {.id = rows.id,
           .token = {.id = NextToken(tokens, open.sampling.seed, options_.vocab),
                     .logprob = 0,
                     .top = {}}});
    }
    return absl::OkStatus();
  }

  Position& Slot(const StepRows& rows, std::size_t position) {
    const auto size = static_cast<std::size_t>(options_.kv_block_size);
    return blocks_[static_cast<std::size_t>(rows.kv_blocks[position / size])][position % size];
  }

  Options options_;
  StageInfo info_;
  std::vector<std::vector<Position>> blocks_;
  std::int64_t writes_ = 0;
  std::map<SequenceId, SequenceOpen> open_;
  std::map<SequenceId, std::vector<std::int64_t>> read_;  // writes of the positions it has read
  std::deque<StepResult> results_;
  std::int64_t steps_ = 0;
};

}  // namespace yangtuo::testing
