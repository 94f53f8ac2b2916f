#include "services/inference/generate_translation.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/grammar.h"
#include "services/common/constraint.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

constexpr int kMaxLogitBias = 1024;
constexpr int kMaxStopTokens = 64;
constexpr std::uint32_t kMaxLogprobs = 20;
constexpr std::size_t kMaxNameBytes = 128;

// Written so that NaN is outside of every range.
absl::Status CheckRange(const char* field, float value, float low, float high) {
  if (value >= low && value <= high) {
    return absl::OkStatus();
  }
  return InvalidField(field, absl::StrFormat("must be from %g to %g, is %g", low, high, value));
}

// (0, high]
absl::Status CheckPositive(const char* field, float value, float high) {
  if (value > 0 && value <= high) {
    return absl::OkStatus();
  }
  return InvalidField(field, absl::StrFormat("must be above 0 and at most %g, is %g", high, value));
}

absl::Status CheckAtMost(const char* field, std::uint32_t value, std::uint32_t high) {
  if (value <= high) {
    return absl::OkStatus();
  }
  return InvalidField(field, absl::StrFormat("must be at most %d, is %d", high, value));
}

template <typename Ids>
absl::StatusOr<std::vector<TokenId>> ToTokens(const char* field, const Ids& ids,
                                              const StageInfo& stage) {
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<std::size_t>(ids.size()));
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] >= static_cast<std::uint32_t>(stage.vocab)) {
      return InvalidField(absl::StrFormat("%s[%d]", field, i),
                          absl::StrFormat("token id %d is outside the model's vocabulary of %d",
                                          ids[i], stage.vocab));
    }
    tokens.push_back(static_cast<TokenId>(ids[i]));
  }
  return tokens;
}

absl::Status CheckContext(const char* field, int prompt, int resumed, const StageInfo& stage) {
  if (prompt == 0) {
    return InvalidField(field, "must have at least one token");
  }
  // One position must be left for a new token.
  if (std::int64_t{prompt} + resumed < stage.context_tokens) {
    return absl::OkStatus();
  }
  const std::string text = absl::StrFormat(
      "the prompt has %d tokens and %d of the answer exist already; the model's context holds %d, "
      "and at least one must be left for the answer",
      prompt, resumed, stage.context_tokens);
  return WithReason(InvalidField(field, text), "CONTEXT_LENGTH_EXCEEDED",
                    {{"prompt_tokens", std::to_string(prompt)},
                     {"resumed_tokens", std::to_string(resumed)},
                     {"context_tokens", std::to_string(stage.context_tokens)}});
}

absl::Status CheckSampling(const yangtuo::v1::SamplingParams& in, const SamplingParams& s,
                           const StageInfo& stage) {
  YANGTUO_RETURN_IF_ERROR(CheckRange("sampling.temperature", s.temperature, 0, 100));
  YANGTUO_RETURN_IF_ERROR(
      CheckAtMost("sampling.top_k", in.top_k(), static_cast<std::uint32_t>(stage.vocab)));
  YANGTUO_RETURN_IF_ERROR(CheckPositive("sampling.top_p", s.top_p, 1));
  YANGTUO_RETURN_IF_ERROR(CheckRange("sampling.min_p", s.min_p, 0, 1));
  YANGTUO_RETURN_IF_ERROR(CheckPositive("sampling.repetition_penalty", s.repetition_penalty, 10));
  YANGTUO_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", s.presence_penalty, -2, 2));
  YANGTUO_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", s.frequency_penalty, -2, 2));
  if (in.logit_bias_size() > kMaxLogitBias) {
    return InvalidField(
        "sampling.logit_bias",
        absl::StrFormat("has %d entries, at most %d", in.logit_bias_size(), kMaxLogitBias));
  }
  for (const auto& [id, bias] : in.logit_bias()) {
    const std::string field = absl::StrFormat("sampling.logit_bias[%d]", id);
    YANGTUO_RETURN_IF_ERROR(
        CheckAtMost(field.c_str(), id, static_cast<std::uint32_t>(stage.vocab) - 1));
    YANGTUO_RETURN_IF_ERROR(CheckRange(field.c_str(), bias, -100, 100));
  }
  if (!in.has_seed()) {
    return InvalidField("sampling.seed",
                        "must be set: the gateway draws one, so that a stream can be resumed");
  }
  return CheckAtMost("sampling.logprobs", in.logprobs(), kMaxLogprobs);
}

absl::Status CheckName(const char* field, const std::string& name) {
  if (name.size() <= kMaxNameBytes) {
    return absl::OkStatus();
  }
  return InvalidField(
      field, absl::StrFormat("has %d bytes, at most %d are allowed", name.size(), kMaxNameBytes));
}

absl::StatusOr<SamplingParams> ToSampling(const yangtuo::v1::SamplingParams& in,
                                          const StageInfo& stage) {
  SamplingParams s;
  s.temperature = in.has_temperature() ? in.temperature() : s.temperature;
  s.top_p = in.has_top_p() ? in.top_p() : s.top_p;
  s.min_p = in.min_p();
  s.repetition_penalty =
      in.has_repetition_penalty() ? in.repetition_penalty() : s.repetition_penalty;
  s.presence_penalty = in.presence_penalty();
  s.frequency_penalty = in.frequency_penalty();
  YANGTUO_RETURN_IF_ERROR(CheckSampling(in, s, stage));
  s.top_k = static_cast<std::int32_t>(in.top_k());
  for (const auto& [id, bias] : in.logit_bias()) {
    s.logit_bias.emplace_back(static_cast<TokenId>(id), bias);
  }
  // A proto map has no order; sums of floats do.
  std::sort(s.logit_bias.begin(), s.logit_bias.end());
  s.seed = in.seed();
  if (in.has_logprobs()) {
    s.logprobs = static_cast<std::int32_t>(in.logprobs());
  }
  return s;
}

absl::Status TakeStop(const yangtuo::v1::StopConditions& stop, const ServedModel& model,
                      EngineRequest& out) {
  const auto context = static_cast<std::uint32_t>(model.stage.context_tokens);
  if (stop.stop_strings_size() > 0) {
    return InvalidField("stop.stop_strings",
                        "must be empty here: stop strings are text, and the "
                        "gateway matches them");
  }
  if (stop.has_max_new_tokens()) {
    if (stop.max_new_tokens() == 0 || stop.max_new_tokens() > context) {
      return InvalidField("stop.max_new_tokens", absl::StrFormat("must be from 1 to %d, is %d",
                                                                 context, stop.max_new_tokens()));
    }
    out.max_new_tokens = static_cast<std::int32_t>(stop.max_new_tokens());
  }
  YANGTUO_RETURN_IF_ERROR(CheckAtMost("stop.min_new_tokens", stop.min_new_tokens(),
                                      stop.has_max_new_tokens() ? stop.max_new_tokens() : context));
  out.sampling.min_new_tokens = static_cast<std::int32_t>(stop.min_new_tokens());
  if (stop.stop_token_ids_size() > kMaxStopTokens) {
    return InvalidField(
        "stop.stop_token_ids",
        absl::StrFormat("has %d entries, at most %d", stop.stop_token_ids_size(), kMaxStopTokens));
  }
  YANGTUO_ASSIGN_OR_RETURN(out.stop_ids,
                           ToTokens("stop.stop_token_ids", stop.stop_token_ids(), model.stage));
  if (!stop.ignore_eos()) {
    out.stop_ids.insert(out.stop_ids.end(), model.eos_ids.begin(), model.eos_ids.end());
  }
  std::sort(out.stop_ids.begin(), out.stop_ids.end());
  out.stop_ids.erase(std::unique(out.stop_ids.begin(), out.stop_ids.end()), out.stop_ids.end());
  return absl::OkStatus();
}

// The leader finds out what is wrong before the head, in its step, would; and compiles outside of
// steps, where both are one process.
absl::Status TakeConstraint(const yangtuo::v1::Constraint& in, const ServedModel& model,
                            EngineRequest& out) {
  absl::StatusOr<GrammarSpec> spec = ToGrammarSpec(in);
  absl::Status status = spec.status();
  if (spec.ok()) {
    status = model.constraints != nullptr
                 ? model.constraints->Begin(*spec, out.resumed_ids).status()
                 : CompileGrammar(*spec).status();
  }
  if (!status.ok()) {
    return InvalidField("sampling.constraint." + ConstraintField(in),
                        std::string(status.message()));
  }
  if (out.stop_ids.empty()) {
    return InvalidField("stop.ignore_eos",
                        "does not go with a constraint: the answer ends where it is complete");
  }
  out.constraint = *std::move(spec);
  return absl::OkStatus();
}

void SetCandidate(TokenId id, float logprob, yangtuo::v1::TokenLogprob* out) {
  out->set_token_id(static_cast<std::uint32_t>(id));
  out->set_logprob(logprob);
}

}  // namespace

std::string NumericsId(const std::string& model_digest, const std::string& numerics) {
  return absl::StrFormat("%s/%s", model_digest, numerics);
}

absl::StatusOr<EngineRequest> ToEngineRequest(const pb::GenerateRequest& request,
                                              const ServedModel& model) {
  const StageInfo& stage = model.stage;
  const std::string own = NumericsId(stage.model_digest, stage.numerics);
  if (!request.numerics_id().empty() && request.numerics_id() != own) {
    return WithReason(absl::FailedPreconditionError(absl::StrFormat(
                          "the request continues on numerics id %s, this worker computes with %s",
                          request.numerics_id(), own)),
                      "NUMERICS_MISMATCH", {{"wanted", request.numerics_id()}, {"worker", own}});
  }
  EngineRequest out;
  YANGTUO_RETURN_IF_ERROR(
      CheckContext("prompt_ids", request.prompt_ids_size(), request.resumed_ids_size(), stage));
  YANGTUO_ASSIGN_OR_RETURN(out.prompt_ids, ToTokens("prompt_ids", request.prompt_ids(), stage));
  YANGTUO_ASSIGN_OR_RETURN(out.resumed_ids, ToTokens("resumed_ids", request.resumed_ids(), stage));
  YANGTUO_ASSIGN_OR_RETURN(out.sampling, ToSampling(request.sampling(), stage));
  out.sampling.choice = request.choice();
  YANGTUO_RETURN_IF_ERROR(TakeStop(request.stop(), model, out));
  if (request.sampling().has_constraint()) {
    YANGTUO_RETURN_IF_ERROR(TakeConstraint(request.sampling().constraint(), model, out));
  }
  if (out.max_new_tokens.has_value() && request.resumed_ids_size() >= *out.max_new_tokens) {
    return InvalidField("resumed_ids",
                        absl::StrFormat("has %d tokens, and stop.max_new_tokens %d allows no more",
                                        request.resumed_ids_size(), *out.max_new_tokens));
  }
  if (request.prompt_logprobs() && !request.sampling().has_logprobs()) {
    return InvalidField("prompt_logprobs", "needs sampling.logprobs (0 reports the token alone)");
  }
  out.prompt_logprobs = request.prompt_logprobs();
  out.priority = request.priority();
  YANGTUO_RETURN_IF_ERROR(CheckName("tenant", request.tenant()));
  out.tenant = request.tenant();
  YANGTUO_RETURN_IF_ERROR(CheckName("cache_salt", request.cache_salt()));
  out.cache_salt = request.cache_salt();
  return out;
}

absl::StatusOr<EngineRequest> ToEngineRequest(const pb::EmbedRequest& request,
                                              const ServedModel& model) {
  EngineRequest out;
  out.task = SequenceTask::kEmbed;
  if (request.ids_size() == 0) {
    return InvalidField("ids", "must have at least one token");
  }
  if (request.ids_size() > model.stage.context_tokens) {
    return WithReason(
        InvalidField("ids", absl::StrFormat("has %d tokens, the model's context holds %d",
                                            request.ids_size(), model.stage.context_tokens)),
        "CONTEXT_LENGTH_EXCEEDED",
        {{"prompt_tokens", std::to_string(request.ids_size())},
         {"context_tokens", std::to_string(model.stage.context_tokens)}});
  }
  YANGTUO_ASSIGN_OR_RETURN(out.prompt_ids, ToTokens("ids", request.ids(), model.stage));
  YANGTUO_RETURN_IF_ERROR(CheckName("tenant", request.tenant()));
  out.tenant = request.tenant();
  return out;
}

yangtuo::v1::PositionLogprobs ToProto(const SampledToken& token) {
  yangtuo::v1::PositionLogprobs out;
  SetCandidate(token.id, token.logprob, out.mutable_chosen());
  for (const TokenLogprob& candidate : token.top) {
    SetCandidate(candidate.id, candidate.logprob, out.add_top());
  }
  return out;
}

pb::GenerateFinished ToProto(const SequenceOutcome& outcome) {
  pb::GenerateFinished out;
  out.set_reason(outcome.reason == FinishReason::kStop ? yangtuo::v1::FINISH_REASON_STOP
                                                       : yangtuo::v1::FINISH_REASON_LENGTH);
  if (outcome.stop_token.has_value()) {
    out.set_stop_token_id(static_cast<std::uint32_t>(*outcome.stop_token));
  }
  out.set_generated_tokens(static_cast<std::uint32_t>(outcome.generated_tokens));
  const auto nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(outcome.queue).count();
  out.mutable_queue()->set_seconds(nanoseconds / 1'000'000'000);
  out.mutable_queue()->set_nanos(static_cast<std::int32_t>(nanoseconds % 1'000'000'000));
  return out;
}

pb::PrefixScheme ToProto(const PrefixScheme& scheme) {
  pb::PrefixScheme out;
  out.set_scheme(std::string(scheme.name));
  out.set_block_size(static_cast<std::uint32_t>(scheme.block_size));
  out.set_root(scheme.root.data(), scheme.root.size());
  return out;
}

absl::Status DescribeFailure(const absl::Status& status, Acceptance acceptance) {
  if (!ReasonOf(status).empty()) {
    return status;
  }
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return WithRetryAfter(WithReason(status, "QUEUE_FULL"), std::chrono::seconds(1));
    case absl::StatusCode::kUnavailable:
      return WithRetryAfter(
          WithReason(status, acceptance == Acceptance::kDraining ? "DRAINING" : "SHARD_LOST"),
          std::chrono::seconds(1));
    case absl::StatusCode::kCancelled:
      // Clients that cancelled do not hear this; for the others it is the drain's limit.
      return acceptance == Acceptance::kDraining
                 ? WithReason(absl::UnavailableError("the worker is shutting down"), "DRAINING")
                 : status;
    default:
      return status;
  }
}

}  // namespace yangtuo
