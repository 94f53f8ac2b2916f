#include "services/inference/shard_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/grammar_spec.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

static_assert(std::endian::native == std::endian::little, "hidden states travel as they lie");

template <typename Ids>
absl::StatusOr<std::vector<TokenId>> DecodeIds(const Ids& ids, const StageInfo& stage) {
  std::vector<TokenId> decoded;
  decoded.reserve(static_cast<std::size_t>(ids.size()));
  for (const std::uint32_t id : ids) {
    if (id >= static_cast<std::uint32_t>(stage.vocab)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("token id %d outside the vocabulary of %d", id, stage.vocab));
    }
    decoded.push_back(static_cast<TokenId>(id));
  }
  return decoded;
}

template <typename Field>
void EncodeIds(const std::vector<TokenId>& ids, Field* field) {
  field->Reserve(static_cast<int>(ids.size()));
  for (const TokenId id : ids) {
    field->Add(static_cast<std::uint32_t>(id));
  }
}

// Kinds as SequenceOpen numbers them, from 1 on.
constexpr std::array kConstraintKinds = {GrammarKind::kJsonObject, GrammarKind::kJsonSchema,
                                         GrammarKind::kRegex, GrammarKind::kGbnf,
                                         GrammarKind::kChoice};

void EncodeConstraint(const GrammarSpec& constraint, pb::SequenceOpen* out) {
  const auto* const kind =
      std::find(kConstraintKinds.begin(), kConstraintKinds.end(), constraint.kind);
  out->set_constraint_kind(static_cast<std::uint32_t>(kind - kConstraintKinds.begin()) + 1);
  out->set_constraint_text(constraint.text);
  for (const std::string& choice : constraint.choices) {
    out->add_constraint_choices(choice);
  }
}

absl::StatusOr<std::optional<GrammarSpec>> DecodeConstraint(const pb::SequenceOpen& in) {
  if (in.constraint_kind() == 0) {
    return std::optional<GrammarSpec>();
  }
  if (in.constraint_kind() > kConstraintKinds.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("a constraint of kind %d, known are 1 to %d",
                                                      in.constraint_kind(),
                                                      kConstraintKinds.size()));
  }
  return std::optional<GrammarSpec>(
      GrammarSpec{.kind = kConstraintKinds[in.constraint_kind() - 1],
                  .text = in.constraint_text(),
                  .choices = {in.constraint_choices().begin(), in.constraint_choices().end()}});
}

void EncodeOpen(const SequenceOpen& open, pb::SequenceOpen* out) {
  const SamplingParams& s = open.sampling;
  out->set_sequence(open.id);
  out->set_task(open.task == SequenceTask::kGenerate ? 1 : 2);
  EncodeIds(open.prompt_ids, out->mutable_prompt_ids());
  EncodeIds(open.emitted_ids, out->mutable_emitted_ids());
  out->set_temperature(s.temperature);
  out->set_top_k(static_cast<std::uint32_t>(s.top_k));
  out->set_top_p(s.top_p);
  out->set_min_p(s.min_p);
  out->set_repetition_penalty(s.repetition_penalty);
  out->set_presence_penalty(s.presence_penalty);
  out->set_frequency_penalty(s.frequency_penalty);
  for (const auto& bias : s.logit_bias) {
    out->add_bias_ids(static_cast<std::uint32_t>(bias.first));
    out->add_bias_values(bias.second);
  }
  out->set_seed(s.seed);
  out->set_choice(s.choice);
  if (s.logprobs.has_value()) {
    out->set_logprobs(static_cast<std::uint32_t>(*s.logprobs));
  }
  out->set_prompt_logprobs(open.prompt_logprobs);
  out->set_min_new_tokens(static_cast<std::uint32_t>(s.min_new_tokens));
  EncodeIds(s.end_ids, out->mutable_end_ids());
  if (open.constraint.has_value()) {
    EncodeConstraint(*open.constraint, out);
  }
  out->set_traceparent(open.traceparent);
}

absl::StatusOr<SamplingParams> DecodeSampling(const pb::SequenceOpen& in, const StageInfo& stage) {
  SamplingParams s;
  const float numbers[] = {
      in.temperature(),      in.top_p(), in.min_p(), in.repetition_penalty(), in.presence_penalty(),
      in.frequency_penalty()};
  for (const float number : numbers) {
    if (!std::isfinite(number)) {
      return absl::InvalidArgumentError("a sampling parameter is not finite");
    }
  }
  if (in.temperature() < 0 || !(in.repetition_penalty() > 0)) {
    return absl::InvalidArgumentError("temperature below 0 or repetition penalty not above 0");
  }
  if (in.top_k() > static_cast<std::uint32_t>(stage.vocab) ||
      in.logprobs() > static_cast<std::uint32_t>(stage.vocab) ||
      in.min_new_tokens() > static_cast<std::uint32_t>(stage.context_tokens)) {
    return absl::InvalidArgumentError("top_k, logprobs or min_new_tokens beyond the model");
  }
  if (in.bias_ids_size() != in.bias_values_size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d bias ids with %d values", in.bias_ids_size(), in.bias_values_size()));
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<TokenId> bias_ids, DecodeIds(in.bias_ids(), stage));
  for (int i = 0; i < in.bias_values_size(); ++i) {
    if (!std::isfinite(in.bias_values(i))) {
      return absl::InvalidArgumentError("a logit bias is not finite");
    }
    s.logit_bias.emplace_back(bias_ids[static_cast<std::size_t>(i)], in.bias_values(i));
  }
  s.temperature = in.temperature();
  s.top_k = static_cast<std::int32_t>(in.top_k());
  s.top_p = in.top_p();
  s.min_p = in.min_p();
  s.repetition_penalty = in.repetition_penalty();
  s.presence_penalty = in.presence_penalty();
  s.frequency_penalty = in.frequency_penalty();
  s.seed = in.seed();
  s.choice = in.choice();
  if (in.has_logprobs()) {
    s.logprobs = static_cast<std::int32_t>(in.logprobs());
  }
  s.min_new_tokens = static_cast<std::int32_t>(in.min_new_tokens());
  YANGTUO_ASSIGN_OR_RETURN(s.end_ids, DecodeIds(in.end_ids(), stage));
  return s;
}

absl::StatusOr<SequenceOpen> DecodeOpen(const pb::SequenceOpen& in, const StageInfo& stage) {
  SequenceOpen open;
  open.id = in.sequence();
  if (in.task() != 1 && in.task() != 2) {
    return absl::InvalidArgumentError(absl::StrFormat("task %d, known are 1 and 2", in.task()));
  }
  open.task = in.task() == 1 ? SequenceTask::kGenerate : SequenceTask::kEmbed;
  if (in.prompt_ids_size() + in.emitted_ids_size() > stage.context_tokens) {
    return absl::InvalidArgumentError(absl::StrFormat("%d prompt and %d answer ids exceed %d",
                                                      in.prompt_ids_size(), in.emitted_ids_size(),
                                                      stage.context_tokens));
  }
  YANGTUO_ASSIGN_OR_RETURN(open.prompt_ids, DecodeIds(in.prompt_ids(), stage));
  YANGTUO_ASSIGN_OR_RETURN(open.emitted_ids, DecodeIds(in.emitted_ids(), stage));
  YANGTUO_ASSIGN_OR_RETURN(open.sampling, DecodeSampling(in, stage));
  YANGTUO_ASSIGN_OR_RETURN(open.constraint, DecodeConstraint(in));
  open.prompt_logprobs = in.prompt_logprobs();
  open.traceparent = in.traceparent();
  return open;
}

absl::StatusOr<StepRows> DecodeRows(const pb::StepRows& in, const StageInfo& stage) {
  StepRows rows;
  rows.id = in.sequence();
  const std::uint64_t end =
      std::uint64_t{in.first_position()} + static_cast<std::uint64_t>(in.token_ids_size());
  if (in.token_ids_size() == 0 || end > static_cast<std::uint64_t>(stage.context_tokens)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("positions [%d, %d) of sequence %d; a sequence has 1 to %d positions",
                        in.first_position(), end, in.sequence(), stage.context_tokens));
  }
  const auto block_size = static_cast<std::uint64_t>(stage.kv_block_size);
  const std::uint64_t blocks = (end + block_size - 1) / block_size;
  if (static_cast<std::uint64_t>(in.kv_blocks_size()) != blocks) {
    return absl::InvalidArgumentError(absl::StrFormat("%d KV blocks for %d positions, expected %d",
                                                      in.kv_blocks_size(), end, blocks));
  }
  rows.first_position = static_cast<std::int32_t>(in.first_position());
  YANGTUO_ASSIGN_OR_RETURN(rows.token_ids, DecodeIds(in.token_ids(), stage));
  rows.kv_blocks.reserve(static_cast<std::size_t>(in.kv_blocks_size()));
  for (const std::uint32_t block : in.kv_blocks()) {
    if (block >= static_cast<std::uint32_t>(stage.kv_blocks)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("KV block %d, this shard has %d", block, stage.kv_blocks));
    }
    rows.kv_blocks.push_back(static_cast<std::int32_t>(block));
  }
  rows.want_output = in.want_output();
  return rows;
}

absl::StatusOr<Step> DecodeStepFields(const pb::StepRequest& request, const StageInfo& stage) {
  Step step;
  step.id = request.step_id();
  for (const pb::SequenceOpen& open : request.opens()) {
    YANGTUO_ASSIGN_OR_RETURN(SequenceOpen decoded, DecodeOpen(open, stage));
    step.opens.push_back(std::move(decoded));
  }
  step.closes.assign(request.closes().begin(), request.closes().end());
  std::set<SequenceId> seen;
  for (const pb::StepRows& rows : request.rows()) {
    YANGTUO_ASSIGN_OR_RETURN(StepRows decoded, DecodeRows(rows, stage));
    if (!seen.insert(decoded.id).second) {
      return absl::InvalidArgumentError(absl::StrFormat("sequence %d twice", decoded.id));
    }
    step.rows.push_back(std::move(decoded));
  }
  const std::int64_t tokens = step.num_tokens();
  if (tokens > stage.max_step_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d rows, this shard takes %d", tokens, stage.max_step_tokens));
  }
  const std::int64_t floats = tokens * stage.hidden;
  if (static_cast<std::int64_t>(request.hidden().size()) != floats * std::int64_t{4}) {
    return absl::InvalidArgumentError(
        absl::StrFormat("hidden states of %d bytes, expected %d rows of %d floats",
                        request.hidden().size(), tokens, stage.hidden));
  }
  step.hidden.resize(static_cast<std::size_t>(floats));
  if (floats > 0) {
    std::memcpy(step.hidden.data(), request.hidden().data(), request.hidden().size());
  }
  return step;
}

std::string ErrorText(const absl::Status& error) {
  return std::string(error.message()).substr(0, 1024);
}

void EncodeSample(const SampledToken& token, pb::SampledToken* out) {
  out->mutable_chosen()->set_token_id(static_cast<std::uint32_t>(token.id));
  out->mutable_chosen()->set_logprob(token.logprob);
  for (const TokenLogprob& candidate : token.top) {
    pb::CandidateToken* top = out->add_top();
    top->set_token_id(static_cast<std::uint32_t>(candidate.id));
    top->set_logprob(candidate.logprob);
  }
}

absl::StatusOr<TokenLogprob> DecodeCandidate(const pb::CandidateToken& in, const StageInfo& stage) {
  if (in.token_id() >= static_cast<std::uint32_t>(stage.vocab)) {
    return absl::DataLossError(
        absl::StrFormat("result has token id %d, the vocabulary %d", in.token_id(), stage.vocab));
  }
  return TokenLogprob{static_cast<TokenId>(in.token_id()), in.logprob()};
}

absl::StatusOr<SampledToken> DecodeSample(const pb::SampledToken& in, const StageInfo& stage) {
  SampledToken token;
  YANGTUO_ASSIGN_OR_RETURN(const TokenLogprob chosen, DecodeCandidate(in.chosen(), stage));
  token.id = chosen.id;
  token.logprob = chosen.logprob;
  for (const pb::CandidateToken& top : in.top()) {
    YANGTUO_ASSIGN_OR_RETURN(const TokenLogprob candidate, DecodeCandidate(top, stage));
    token.top.push_back(candidate);
  }
  return token;
}

}  // namespace

pb::StepRequest EncodeStep(const Step& step) {
  pb::StepRequest request;
  request.set_step_id(step.id);
  for (const SequenceOpen& open : step.opens) {
    EncodeOpen(open, request.add_opens());
  }
  request.mutable_closes()->Add(step.closes.begin(), step.closes.end());
  for (const StepRows& rows : step.rows) {
    pb::StepRows* out = request.add_rows();
    out->set_sequence(rows.id);
    out->set_first_position(static_cast<std::uint32_t>(rows.first_position));
    EncodeIds(rows.token_ids, out->mutable_token_ids());
    EncodeIds(rows.kv_blocks, out->mutable_kv_blocks());
    out->set_want_output(rows.want_output);
  }
  request.mutable_hidden()->assign(reinterpret_cast<const char*>(step.hidden.data()),
                                   step.hidden.size() * sizeof(float));
  return request;
}

absl::StatusOr<Step> DecodeStep(const pb::StepRequest& request, const StageInfo& stage) {
  absl::StatusOr<Step> step = DecodeStepFields(request, stage);
  if (!step.ok()) {
    return absl::Status(
        step.status().code(),
        absl::StrFormat("step %d: %s", request.step_id(), std::string(step.status().message())));
  }
  return step;
}

pb::StepResponse EncodeStepResult(const StepResult& result) {
  pb::StepResponse response;
  response.set_step_id(result.id);
  for (const SequenceSample& sample : result.samples) {
    pb::SampledToken* out = response.add_samples();
    out->set_sequence(sample.id);
    EncodeSample(sample.token, out);
  }
  for (const PromptLogprobs& prompt : result.prompt_logprobs) {
    pb::PromptLogprobs* out = response.add_prompt_logprobs();
    out->set_sequence(prompt.id);
    out->set_first_position(static_cast<std::uint32_t>(prompt.first_position));
    for (const SampledToken& entry : prompt.entries) {
      EncodeSample(entry, out->add_entries());
    }
  }
  for (const SequenceEmbedding& embedding : result.embeddings) {
    pb::PooledHidden* out = response.add_pooled();
    out->set_sequence(embedding.id);
    out->mutable_values()->Add(embedding.values.begin(), embedding.values.end());
  }
  for (const SequenceFailure& failure : result.failures) {
    pb::SequenceFailure* out = response.add_failures();
    out->set_sequence(failure.id);
    out->set_code(static_cast<std::uint32_t>(failure.status.code()));
    out->set_error(ErrorText(failure.status));
  }
  response.set_compute_ns(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(result.compute).count()));
  return response;
}

pb::StepResponse EncodeStepError(std::uint64_t step_id, const absl::Status& error) {
  pb::StepResponse response;
  response.set_step_id(step_id);
  response.set_code(static_cast<std::uint32_t>(error.code()));
  response.set_error(ErrorText(error));
  return response;
}

absl::StatusOr<StepResult> DecodeStepResult(const pb::StepResponse& response,
                                            const StageInfo& stage) {
  if (response.code() != 0) {
    // absl reads a code outside the canonical ones as UNKNOWN.
    return absl::Status(static_cast<absl::StatusCode>(response.code()), response.error());
  }
  StepResult result;
  result.id = response.step_id();
  for (const pb::SampledToken& sample : response.samples()) {
    YANGTUO_ASSIGN_OR_RETURN(SampledToken token, DecodeSample(sample, stage));
    result.samples.push_back({sample.sequence(), std::move(token)});
  }
  for (const pb::PromptLogprobs& in : response.prompt_logprobs()) {
    if (std::uint64_t{in.first_position()} + static_cast<std::uint64_t>(in.entries_size()) >
        static_cast<std::uint64_t>(stage.context_tokens)) {
      return absl::DataLossError(
          absl::StrFormat("prompt log-probabilities of position %d and %d more",
                          in.first_position(), in.entries_size()));
    }
    PromptLogprobs prompt;
    prompt.id = in.sequence();
    prompt.first_position = static_cast<std::int32_t>(in.first_position());
    for (const pb::SampledToken& entry : in.entries()) {
      YANGTUO_ASSIGN_OR_RETURN(SampledToken token, DecodeSample(entry, stage));
      prompt.entries.push_back(std::move(token));
    }
    result.prompt_logprobs.push_back(std::move(prompt));
  }
  for (const pb::PooledHidden& in : response.pooled()) {
    if (in.values_size() != stage.hidden) {
      return absl::DataLossError(absl::StrFormat("embedding of %d values, the model's hidden is %d",
                                                 in.values_size(), stage.hidden));
    }
    result.embeddings.push_back({in.sequence(), {in.values().begin(), in.values().end()}});
  }
  for (const pb::SequenceFailure& in : response.failures()) {
    if (in.code() == 0) {
      return absl::DataLossError(absl::StrFormat("sequence %d failed with code OK", in.sequence()));
    }
    result.failures.push_back(
        {.id = in.sequence(),
         .status = absl::Status(static_cast<absl::StatusCode>(in.code()), in.error())});
  }
  result.compute = std::chrono::nanoseconds(response.compute_ns());
  return result;
}

}  // namespace yangtuo
