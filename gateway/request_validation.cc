#include "gateway/request_validation.h"

#include <cmath>
#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"
#include "google/rpc/error_details.pb.h"
#include "services/common/constraint.h"
#include "services/common/request_context.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

constexpr int kMaxLogitBias = 1024;
constexpr int kMaxStopStrings = 16;
constexpr std::size_t kMaxStopStringBytes = 256;
constexpr int kMaxStopTokens = 64;
constexpr std::uint32_t kMaxLogprobs = 20;
constexpr int kMaxPriority = 100;
// A list of a thousand wrong ids needs no thousand lines.
constexpr int kMaxViolations = 16;

// Collects what is wrong with one request.
class Violations {
 public:
  [[nodiscard]] bool full() const { return report_.field_violations_size() >= kMaxViolations; }

  void Add(std::string field, std::string description) {
    if (full()) {
      return;
    }
    google::rpc::BadRequest::FieldViolation& violation = *report_.add_field_violations();
    violation.set_field(std::move(field));
    violation.set_description(std::move(description));
  }

  [[nodiscard]] absl::Status ToStatus() const {
    if (report_.field_violations_size() == 0) {
      return absl::OkStatus();
    }
    std::string message;
    for (const auto& violation : report_.field_violations()) {
      message += absl::StrFormat("%s%s: %s", message.empty() ? "" : "; ", violation.field(),
                                 violation.description());
    }
    absl::Status status = absl::InvalidArgumentError(message);
    status.SetPayload("type.googleapis.com/google.rpc.BadRequest",
                      absl::Cord(report_.SerializeAsString()));
    return WithReason(std::move(status), "INVALID_FIELD");
  }

 private:
  google::rpc::BadRequest report_;
};

enum class Low { kIncluded, kExcluded };

// `range` is the interval as the schema writes it. Not a number is in no range.
struct FloatRange {
  float low;
  Low low_end;
  float high;
  const char* range;
};

void CheckFloat(const char* field, float value, const FloatRange& range, Violations& found) {
  const bool above = range.low_end == Low::kIncluded ? value >= range.low : value > range.low;
  if (!above || !(value <= range.high)) {
    found.Add(field, absl::StrFormat("is %g, must be in %s", value, range.range));
  }
}

void CheckSampling(const v1::SamplingParams& sampling, Violations& found) {
  const auto check = [&](bool present, const char* field, float value, const FloatRange& range) {
    if (present) {
      CheckFloat(field, value, range, found);
    }
  };
  check(sampling.has_temperature(), "sampling.temperature", sampling.temperature(),
        {0, Low::kIncluded, 100, "[0, 100]"});
  check(sampling.has_top_p(), "sampling.top_p", sampling.top_p(), {0, Low::kExcluded, 1, "(0, 1]"});
  check(sampling.has_min_p(), "sampling.min_p", sampling.min_p(), {0, Low::kIncluded, 1, "[0, 1]"});
  check(sampling.has_repetition_penalty(), "sampling.repetition_penalty",
        sampling.repetition_penalty(), {0, Low::kExcluded, 10, "(0, 10]"});
  check(sampling.has_presence_penalty(), "sampling.presence_penalty", sampling.presence_penalty(),
        {-2, Low::kIncluded, 2, "[-2, 2]"});
  check(sampling.has_frequency_penalty(), "sampling.frequency_penalty",
        sampling.frequency_penalty(), {-2, Low::kIncluded, 2, "[-2, 2]"});
  if (sampling.logit_bias_size() > kMaxLogitBias) {
    found.Add("sampling.logit_bias", absl::StrFormat("has %d entries, at most %d are allowed",
                                                     sampling.logit_bias_size(), kMaxLogitBias));
  }
  for (const auto& [id, bias] : sampling.logit_bias()) {
    if (!(bias >= -100 && bias <= 100) && !found.full()) {
      found.Add(absl::StrFormat("sampling.logit_bias[%u]", id),
                absl::StrFormat("is %g, must be in [-100, 100]", bias));
    }
  }
  if (sampling.has_logprobs() && sampling.logprobs() > kMaxLogprobs) {
    found.Add("sampling.logprobs",
              absl::StrFormat("is %u, must be in 0..%u", sampling.logprobs(), kMaxLogprobs));
  }
}

void CheckStop(const v1::StopConditions& stop, Violations& found) {
  if (stop.has_max_new_tokens() && stop.max_new_tokens() == 0) {
    found.Add("stop.max_new_tokens", "is 0, must be at least 1");
  }
  if (stop.has_max_new_tokens() && stop.has_min_new_tokens() &&
      stop.min_new_tokens() > stop.max_new_tokens()) {
    found.Add("stop.min_new_tokens",
              absl::StrFormat("is %u, more than stop.max_new_tokens, which is %u",
                              stop.min_new_tokens(), stop.max_new_tokens()));
  }
  if (stop.stop_strings_size() > kMaxStopStrings) {
    found.Add("stop.stop_strings", absl::StrFormat("has %d entries, at most %d are allowed",
                                                   stop.stop_strings_size(), kMaxStopStrings));
  }
  for (int i = 0; i < stop.stop_strings_size(); ++i) {
    const std::size_t bytes = stop.stop_strings(i).size();
    if ((bytes == 0 || bytes > kMaxStopStringBytes) && !found.full()) {
      found.Add(absl::StrFormat("stop.stop_strings[%d]", i),
                absl::StrFormat("has %u bytes, must have 1..%u", bytes, kMaxStopStringBytes));
    }
  }
  if (stop.stop_token_ids_size() > kMaxStopTokens) {
    found.Add("stop.stop_token_ids", absl::StrFormat("has %d entries, at most %d are allowed",
                                                     stop.stop_token_ids_size(), kMaxStopTokens));
  }
}

void CheckChat(const v1::ChatPrompt& chat, Violations& found) {
  if (chat.messages_size() == 0) {
    found.Add("chat.messages", "is empty, at least one message is needed");
  }
  for (int i = 0; i < chat.messages_size(); ++i) {
    const std::string& role = chat.messages(i).role();
    if (role != "system" && role != "user" && role != "assistant" && !found.full()) {
      found.Add(absl::StrFormat("chat.messages[%d].role", i),
                absl::StrFormat("is \"%s\", must be system, user or assistant", role));
    }
  }
  if (chat.has_template_() && chat.template_().empty()) {
    found.Add("chat.template", "is empty: name a template, or leave the field out");
  }
}

void CheckPrompt(const v1::GenerateRequest& request, Violations& found) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (request.text().empty()) {
        found.Add("text", "is empty: there is nothing to complete");
      }
      return;
    case v1::GenerateRequest::kChat:
      CheckChat(request.chat(), found);
      if (request.echo()) {
        found.Add("echo", "is only for text and token_ids prompts, not for chat");
      }
      break;
    case v1::GenerateRequest::kTokenIds:
      if (request.token_ids().ids().empty()) {
        found.Add("token_ids.ids", "is empty, at least one id is needed");
      }
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      found.Add("prompt", "is missing: set one of text, chat and token_ids");
      break;
  }
  if (request.parse_special()) {
    found.Add("parse_special", "is only for text prompts");
  }
}

void CheckId(const std::string& request_id, Violations& found) {
  if (request_id.empty()) {
    return;
  }
  if (const absl::Status status = CheckRequestId(request_id); !status.ok()) {
    found.Add("request_id", std::string(status.message()));
  }
}

void CheckVocabulary(const std::string& field, std::uint32_t id, const ModelBounds& model,
                     Violations& found) {
  if (id >= model.vocabulary_size && !found.full()) {
    found.Add(field, absl::StrFormat("%u is no token of this model, which has the ids 0..%d", id,
                                     static_cast<std::int64_t>(model.vocabulary_size) - 1));
  }
}

}  // namespace

absl::Status CheckGenerateRequest(const v1::GenerateRequest& request, const RequestLimits& limits) {
  if (!request.adapter().empty()) {
    return WithReason(absl::NotFoundError(absl::StrFormat(
                          "adapter \"%s\" is unknown: this cluster serves no adapters; leave the "
                          "field empty, or serve a model that has the adapter merged",
                          request.adapter())),
                      "ADAPTER_NOT_FOUND");
  }
  Violations found;
  CheckPrompt(request, found);
  CheckSampling(request.sampling(), found);
  CheckStop(request.stop(), found);
  if (request.has_n() && (request.n() == 0 || request.n() > limits.max_choices)) {
    found.Add("n", absl::StrFormat("is %u, must be in 1..%u", request.n(), limits.max_choices));
  }
  if (std::abs(static_cast<std::int64_t>(request.priority())) > kMaxPriority) {
    found.Add("priority", absl::StrFormat("is %d, must be in -%d..%d", request.priority(),
                                          kMaxPriority, kMaxPriority));
  }
  CheckId(request.request_id(), found);
  return found.ToStatus();
}

bool IsConstraintAtHand(const v1::GenerateRequest& request, GrammarCache& grammars) {
  if (!request.sampling().has_constraint()) {
    return true;
  }
  const absl::StatusOr<GrammarSpec> spec = ToGrammarSpec(request.sampling().constraint());
  return !spec.ok() || grammars.Has(*spec);
}

absl::Status CheckConstraint(const v1::GenerateRequest& request, GrammarCache& grammars) {
  if (!request.sampling().has_constraint()) {
    return absl::OkStatus();
  }
  Violations found;
  const v1::Constraint& constraint = request.sampling().constraint();
  const absl::StatusOr<GrammarSpec> spec = ToGrammarSpec(constraint);
  const absl::Status status = spec.ok() ? grammars.Get(*spec).status() : spec.status();
  if (!status.ok()) {
    found.Add("sampling.constraint." + ConstraintField(constraint), std::string(status.message()));
  }
  if (request.stop().ignore_eos()) {
    found.Add("stop.ignore_eos",
              "does not go with sampling.constraint: the answer ends where it is complete");
  }
  return found.ToStatus();
}

absl::Status CheckAgainstModel(const v1::GenerateRequest& request, const ModelBounds& model) {
  Violations found;
  if (request.sampling().top_k() > model.vocabulary_size) {
    found.Add("sampling.top_k", absl::StrFormat("is %u, must be in 0..%u (the vocabulary)",
                                                request.sampling().top_k(), model.vocabulary_size));
  }
  for (const auto& entry : request.sampling().logit_bias()) {
    CheckVocabulary("sampling.logit_bias", entry.first, model, found);
  }
  for (int i = 0; i < request.stop().stop_token_ids_size(); ++i) {
    CheckVocabulary(absl::StrFormat("stop.stop_token_ids[%d]", i), request.stop().stop_token_ids(i),
                    model, found);
  }
  if (request.stop().max_new_tokens() > model.context_tokens) {
    found.Add("stop.max_new_tokens",
              absl::StrFormat("is %u, must be in 1..%u (the context)",
                              request.stop().max_new_tokens(), model.context_tokens));
  }
  for (const std::uint32_t id : request.token_ids().ids()) {
    CheckVocabulary("token_ids.ids", id, model, found);
  }
  return found.ToStatus();
}

absl::Status CheckEmbedRequest(const v1::EmbedRequest& request, const RequestLimits& limits) {
  Violations found;
  if (request.texts().empty() ||
      static_cast<std::uint32_t>(request.texts_size()) > limits.max_embed_texts) {
    found.Add("texts", absl::StrFormat("has %d entries, must have 1..%u", request.texts_size(),
                                       limits.max_embed_texts));
  }
  for (int i = 0; i < request.texts_size(); ++i) {
    if (request.texts(i).empty()) {
      found.Add(absl::StrFormat("texts[%d]", i), "is empty");
    }
  }
  CheckId(request.request_id(), found);
  return found.ToStatus();
}

absl::Status CheckEmbedInputs(const std::vector<std::vector<std::uint32_t>>& inputs,
                              const RequestLimits& limits, const ModelBounds& model) {
  Violations found;
  if (inputs.size() > limits.max_embed_texts) {
    found.Add("inputs", absl::StrFormat("has %u entries, must have 1..%u", inputs.size(),
                                        limits.max_embed_texts));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::string field = absl::StrFormat("inputs[%d]", i);
    if (inputs[i].empty()) {
      found.Add(field, "is empty");
    }
    for (const std::uint32_t id : inputs[i]) {
      CheckVocabulary(field, id, model, found);
    }
  }
  return found.ToStatus();
}

absl::Status CheckTokenizeRequest(const v1::TokenizeRequest& request) {
  Violations found;
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      break;
    case v1::TokenizeRequest::kChat:
      CheckChat(request.chat(), found);
      if (request.parse_special()) {
        found.Add("parse_special", "is only for text");
      }
      if (request.has_add_bos()) {
        found.Add("add_bos", "is only for text: a chat template places its own");
      }
      break;
    case v1::TokenizeRequest::INPUT_NOT_SET:
      found.Add("input", "is missing: set one of text and chat");
      break;
  }
  return found.ToStatus();
}

absl::Status CheckDetokenizeRequest(const v1::DetokenizeRequest& request,
                                    const ModelBounds& model) {
  Violations found;
  for (const std::uint32_t id : request.token_ids()) {
    CheckVocabulary("token_ids", id, model, found);
  }
  return found.ToStatus();
}

absl::Status CheckContextLength(std::uint64_t prompt_tokens, std::uint32_t max_new_tokens,
                                const ModelBounds& model) {
  if (prompt_tokens < model.context_tokens) {
    return absl::OkStatus();
  }
  const std::string wanted = max_new_tokens == 0
                                 ? "no limit on new tokens was given"
                                 : absl::StrFormat("%u new ones were asked for", max_new_tokens);
  return WithReason(
      absl::InvalidArgumentError(absl::StrFormat(
          "the prompt has %u tokens and the model's context %u, prompt and answer together, so no "
          "new token fits (%s): shorten the prompt to at most %d tokens",
          prompt_tokens, model.context_tokens, wanted,
          static_cast<std::int64_t>(model.context_tokens) - 1)),
      "CONTEXT_LENGTH_EXCEEDED",
      {{"context_tokens", absl::StrFormat("%u", model.context_tokens)},
       {"prompt_tokens", absl::StrFormat("%u", prompt_tokens)},
       {"max_new_tokens", absl::StrFormat("%u", max_new_tokens)}});
}

}  // namespace yangtuo::gateway
