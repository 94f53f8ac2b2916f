#include "inference_core/model/llama_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/parallel.h"

namespace yangtuo {
namespace {

// Rows of logits in memory at a time: 14 MB for a vocabulary of 55,296.
constexpr std::int64_t kRowsAtOnce = 64;

bool AllFinite(std::span<const float> values) {
  // x - x is 0 for finite numbers and NaN otherwise; sums need no branch per element, and several
  // beside each other are vectorized.
  std::array<float, 16> sums{};
  std::size_t i = 0;
  for (; i + sums.size() <= values.size(); i += sums.size()) {
    for (std::size_t lane = 0; lane < sums.size(); ++lane) {
      sums[lane] += values[i + lane] - values[i + lane];
    }
  }
  for (; i < values.size(); ++i) {
    sums[0] += values[i] - values[i];
  }
  return std::all_of(sums.begin(), sums.end(), [](float sum) { return sum == 0.0F; });
}

std::vector<float> UnitMean(std::span<const double> sum) {
  // The length does not depend on the count, so the mean needs no division.
  double squares = 0.0;
  for (const double value : sum) {
    squares += value * value;
  }
  const double scale = squares > 0.0 ? 1.0 / std::sqrt(squares) : 0.0;
  std::vector<float> values;
  values.reserve(sum.size());
  for (const double value : sum) {
    values.push_back(static_cast<float>(value * scale));
  }
  return values;
}

// The first failure of a sequence says enough.
void AddFailure(SequenceId id, std::string_view what, StepResult& result) {
  const bool known = std::any_of(result.failures.begin(), result.failures.end(),
                                 [id](const SequenceFailure& failure) { return failure.id == id; });
  if (!known) {
    result.failures.push_back(
        {.id = id, .status = absl::InternalError(absl::StrFormat("sequence %d: %s", id, what))});
  }
}

}  // namespace

LlamaHead::LlamaHead(LlamaShard& shard, std::shared_ptr<AnswerConstraints> constraints)
    : shard_(shard),
      constraints_(std::move(constraints)),
      gathered_(static_cast<std::size_t>(kRowsAtOnce * shard.options().config.hidden)),
      normed_(gathered_.size()),
      logits_(static_cast<std::size_t>(kRowsAtOnce * shard.options().config.vocab)) {}

absl::Status LlamaHead::CheckRows(const Step& step, const StepRows& rows) const {
  const std::int64_t end = rows.first_position + static_cast<std::int64_t>(rows.token_ids.size());
  const bool closed =
      std::find(step.closes.begin(), step.closes.end(), rows.id) != step.closes.end();
  const auto opened = std::find_if(step.opens.rbegin(), step.opens.rend(),
                                   [&](const SequenceOpen& open) { return open.id == rows.id; });
  const bool opens_now = opened != step.opens.rend();
  const auto known = sequences_.find(rows.id);
  if (closed || (!opens_now && known == sequences_.end())) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step %d has rows of sequence %d, which is not open", step.id, rows.id));
  }
  const SequenceTask task = opens_now ? opened->task : known->second.task;
  if (task == SequenceTask::kEmbed) {
    const std::int32_t summed = opens_now ? 0 : known->second.summed;
    if (rows.first_position != summed) {
      return absl::InvalidArgumentError(
          absl::StrFormat("sequence %d embeds all its positions in order: expected rows from "
                          "position %d, found %d",
                          rows.id, summed, rows.first_position));
    }
    return absl::OkStatus();
  }
  const std::int64_t tokens =
      opens_now ? static_cast<std::int64_t>(opened->prompt_ids.size() + opened->emitted_ids.size())
                : known->second.sampler.position();
  if (rows.want_output ? end != tokens : end > tokens) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequence %d has %d tokens, rows of step %d end at %d", rows.id, tokens, step.id, end));
  }
  return absl::OkStatus();
}

absl::StatusOr<LlamaHead::Sequence> LlamaHead::Open(const SequenceOpen& open) const {
  const bool embeds = open.task == SequenceTask::kEmbed;
  const auto hidden = static_cast<std::size_t>(shard_.options().config.hidden);
  SamplingParams sampling = open.sampling;
  std::optional<Constrained> constrained;
  if (open.constraint.has_value()) {
    if (constraints_ == nullptr) {
      return absl::FailedPreconditionError(
          "answers cannot be held to a constraint here: the model's tokenizer is not known");
    }
    YANGTUO_ASSIGN_OR_RETURN(AnswerConstraint constraint,
                             constraints_->Begin(*open.constraint, open.emitted_ids));
    const auto prompt = static_cast<std::int32_t>(open.prompt_ids.size());
    constrained.emplace(Constrained{.constraint = std::move(constraint),
                                    .end_ids = sampling.end_ids,
                                    .least_position = prompt + sampling.min_new_tokens,
                                    .logprobs = sampling.logprobs.has_value()});
    // Both are seen to around the sampler.
    sampling.min_new_tokens = 0;
    sampling.logprobs.reset();
  }
  return Sequence{.task = open.task,
                  .prompt = open.prompt_logprobs ? open.prompt_ids : std::vector<TokenId>(),
                  .prompt_logprobs = open.prompt_logprobs && !embeds,
                  .alternatives = open.sampling.logprobs.value_or(0),
                  .sampler = SequenceSampler(sampling, open.prompt_ids, open.emitted_ids),
                  .constrained = std::move(constrained),
                  .hidden_sum = std::vector<double>(embeds ? hidden : 0),
                  .summed = 0};
}

absl::Status LlamaHead::Begin(const Step& step) {
  for (const StepRows& rows : step.rows) {
    YANGTUO_RETURN_IF_ERROR(CheckRows(step, rows));
  }
  std::vector<Sequence> opened;
  opened.reserve(step.opens.size());
  for (const SequenceOpen& open : step.opens) {
    YANGTUO_ASSIGN_OR_RETURN(Sequence sequence, Open(open));
    opened.push_back(std::move(sequence));
  }
  for (std::size_t i = 0; i < opened.size(); ++i) {
    sequences_.insert_or_assign(step.opens[i].id, std::move(opened[i]));
  }
  for (const SequenceId id : step.closes) {
    sequences_.erase(id);
  }
  return absl::OkStatus();
}

void LlamaHead::AddHidden(Sequence& sequence, ConstMatrix rows) {
  const std::int64_t hidden = rows.dim(1);
  for (std::int64_t first = 0; first < rows.dim(0); first += kRowsAtOnce) {
    const std::int64_t count = std::min(kRowsAtOnce, rows.dim(0) - first);
    const Matrix normed(normed_.data(), {count, hidden});
    shard_.FinalNorm(ConstMatrix(rows.data() + first * hidden, {count, hidden}), normed);
    for (std::int64_t r = 0; r < count; ++r) {
      const std::span<float> row = normed.Row(r);
      for (std::size_t i = 0; i < row.size(); ++i) {
        sequence.hidden_sum[i] += static_cast<double>(row[i]);
      }
    }
  }
  sequence.summed += static_cast<std::int32_t>(rows.dim(0));
}

void LlamaHead::Embed(SequenceId id, const Sequence& sequence, StepResult& result) {
  std::vector<float> values = UnitMean(sequence.hidden_sum);
  if (AllFinite(values)) {
    result.embeddings.push_back({.id = id, .values = std::move(values)});
  } else {
    AddFailure(id,
               "the model gave hidden states that are not finite numbers; its weights may be "
               "damaged (see `yangtuo verify`)",
               result);
  }
}

void LlamaHead::CollectLogprobs(const StepRows& rows, std::int64_t first_row, Sequence& sequence,
                                StepResult& result) {
  // The row at position p scores the prompt's token at p + 1.
  const auto prompt = static_cast<std::int64_t>(sequence.prompt.size());
  const std::int64_t count =
      std::min(static_cast<std::int64_t>(rows.token_ids.size()), prompt - 1 - rows.first_position);
  if (count <= 0) {
    return;
  }
  result.prompt_logprobs.push_back(
      {.id = rows.id,
       .first_position = rows.first_position + 1,
       .entries = std::vector<SampledToken>(static_cast<std::size_t>(count))});
  std::vector<SampledToken>& entries = result.prompt_logprobs.back().entries;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(rows.first_position + 1 + i);
    wanted_.push_back({.row = first_row + i,
                       .id = rows.id,
                       .sequence = &sequence,
                       .answer = &entries[static_cast<std::size_t>(i)],
                       .given = sequence.prompt[at]});
  }
}

void LlamaHead::Collect(const Step& step, ConstMatrix x, StepResult& result) {
  wanted_.clear();
  // Answers are written through pointers: no list may move once it has entries.
  result.samples.reserve(step.rows.size());
  result.prompt_logprobs.reserve(step.rows.size());
  std::int64_t first_row = 0;
  for (const StepRows& rows : step.rows) {
    Sequence& sequence = sequences_.at(rows.id);
    const auto count = static_cast<std::int64_t>(rows.token_ids.size());
    if (sequence.task == SequenceTask::kEmbed) {
      AddHidden(sequence, ConstMatrix(x.data() + first_row * x.dim(1), {count, x.dim(1)}));
      if (rows.want_output) {
        Embed(rows.id, sequence, result);
      }
    } else {
      if (sequence.prompt_logprobs) {
        CollectLogprobs(rows, first_row, sequence, result);
      }
      if (rows.want_output) {
        result.samples.push_back({.id = rows.id, .token = {}});
        wanted_.push_back({.row = first_row + count - 1,
                           .id = rows.id,
                           .sequence = &sequence,
                           .answer = &result.samples.back().token,
                           .given = std::nullopt});
      }
    }
    first_row += count;
  }
}

absl::StatusOr<SampledToken> LlamaHead::SampleConstrained(Sequence& sequence,
                                                          std::span<float> logits) {
  Constrained& held = *sequence.constrained;
  // Log-probabilities are of the model's own distribution.
  std::vector<float> own;
  if (held.logprobs) {
    own.assign(logits.begin(), logits.end());
  }
  held.constraint.Mask(logits, held.end_ids, sequence.sampler.position() < held.least_position);
  SampledToken token = sequence.sampler.Sample(logits);
  if (held.logprobs) {
    token = GivenToken(own, token.id, sequence.alternatives);
  }
  const bool ends =
      std::find(held.end_ids.begin(), held.end_ids.end(), token.id) != held.end_ids.end();
  if (!ends) {
    YANGTUO_RETURN_IF_ERROR(held.constraint.Accept(token.id));
  }
  return token;
}

absl::Status LlamaHead::Answer(std::span<const LogitsRow> rows, ConstMatrix x, StepResult& result) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const Matrix gathered(gathered_.data(), {count, x.dim(1)});
  const Matrix normed(normed_.data(), {count, x.dim(1)});
  const Matrix logits(logits_.data(), {count, shard_.options().config.vocab});
  for (std::int64_t i = 0; i < count; ++i) {
    const std::span<const float> row = x.Row(rows[static_cast<std::size_t>(i)].row);
    std::copy(row.begin(), row.end(), gathered.Row(i).begin());
  }
  YANGTUO_RETURN_IF_ERROR(shard_.Logits(gathered, normed, logits));
  enum class End : char { kAnswered, kNotFinite, kMisfit };
  std::vector<End> ends(rows.size(), End::kAnswered);
  kernels::ParallelFor(shard_.options().threads, count, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    const LogitsRow& row = rows[at];
    const std::span<float> values = logits.Row(i);
    if (!AllFinite(values)) {
      ends[at] = End::kNotFinite;
    } else if (row.given.has_value()) {
      *row.answer = GivenToken(values, *row.given, row.sequence->alternatives);
    } else if (row.sequence->constrained.has_value()) {
      absl::StatusOr<SampledToken> token = SampleConstrained(*row.sequence, values);
      if (token.ok()) {
        *row.answer = *std::move(token);
      } else {
        ends[at] = End::kMisfit;
      }
    } else {
      *row.answer = row.sequence->sampler.Sample(values);
    }
  });
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (ends[i] == End::kAnswered) {
      continue;
    }
    // Should somebody add it up, the sum shows it.
    rows[i].answer->logprob = std::numeric_limits<float>::quiet_NaN();
    AddFailure(rows[i].id,
               ends[i] == End::kMisfit
                   ? "a token was chosen that its constraint does not allow"
                   : "the model gave logits that are not finite numbers; its weights may be "
                     "damaged (see `yangtuo verify`)",
               result);
  }
  return absl::OkStatus();
}

absl::StatusOr<StepResult> LlamaHead::Finish(const Step& step, ConstMatrix x) {
  StepResult result;
  result.id = step.id;
  Collect(step, x, result);
  const std::span<const LogitsRow> wanted(wanted_);
  for (std::size_t first = 0; first < wanted.size(); first += kRowsAtOnce) {
    const std::size_t count = std::min<std::size_t>(kRowsAtOnce, wanted.size() - first);
    YANGTUO_RETURN_IF_ERROR(Answer(wanted.subspan(first, count), x, result));
  }
  for (const SequenceFailure& failure : result.failures) {
    std::erase_if(result.samples,
                  [&failure](const SequenceSample& sample) { return sample.id == failure.id; });
  }
  return result;
}

}  // namespace yangtuo
