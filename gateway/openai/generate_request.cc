#include "gateway/openai/generate_request.h"

#include <charconv>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "gateway/openai/structured_output.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo::gateway::openai {
namespace {

// https://platform.openai.com/docs/api-reference/completions: a completion is short by default.
constexpr std::uint32_t kDefaultCompletionTokens = 16;
constexpr std::size_t kMaxPrompts = 64;
// Bounds what an answer sets aside; the gateway's own limit is stricter.
constexpr std::int64_t kMaxChoices = 128;
constexpr std::int64_t kMaxTopLogprobs = 20;
constexpr std::int64_t kMaxInteger = std::numeric_limits<std::int64_t>::max();

void ReadSampling(Fields& fields, v1::SamplingParams& sampling) {
  const auto number = [&fields](const char* name, auto set) {
    if (const auto value = fields.Number(name); value.has_value()) {
      set(static_cast<float>(*value));
    }
  };
  number("temperature", [&](float value) { sampling.set_temperature(value); });
  number("top_p", [&](float value) { sampling.set_top_p(value); });
  number("min_p", [&](float value) { sampling.set_min_p(value); });
  number("repetition_penalty", [&](float value) { sampling.set_repetition_penalty(value); });
  number("presence_penalty", [&](float value) { sampling.set_presence_penalty(value); });
  number("frequency_penalty", [&](float value) { sampling.set_frequency_penalty(value); });
  // -1 and 0 both mean "all" among servers that have this member.
  if (const auto top_k = fields.Integer("top_k", -1, std::numeric_limits<std::int32_t>::max());
      top_k.has_value()) {
    sampling.set_top_k(static_cast<std::uint32_t>(std::max<std::int64_t>(*top_k, 0)));
  }
  if (const auto seed = fields.Integer("seed", -kMaxInteger, kMaxInteger); seed.has_value()) {
    sampling.set_seed(static_cast<std::uint64_t>(*seed));
  }
  if (const auto sample = fields.Bool("do_sample"); sample.has_value() && !*sample) {
    sampling.set_temperature(0);
  }
}

void ReadLogitBias(Fields& fields, v1::SamplingParams& sampling) {
  const Json* biases = fields.Find("logit_bias");
  if (biases == nullptr) {
    return;
  }
  if (!biases->is_object()) {
    fields.Fail(WrongField("logit_bias", "must be an object of token ids and biases"));
    return;
  }
  for (const auto& [key, bias] : biases->items()) {
    std::uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || !bias.is_number()) {
      fields.Fail(WrongField("logit_bias", "must have token ids as names and numbers as values"));
      return;
    }
    (*sampling.mutable_logit_bias())[id] = bias.get<float>();
  }
}

void ReadLogprobs(Api api, Fields& fields, v1::SamplingParams& sampling) {
  if (api == Api::kCompletions) {
    if (const auto count = fields.Count("logprobs"); count.has_value()) {
      sampling.set_logprobs(*count);
    }
    return;
  }
  const bool wanted = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, kMaxTopLogprobs);
  if (wanted) {
    sampling.set_logprobs(static_cast<std::uint32_t>(top.value_or(0)));
  } else if (top.value_or(0) > 0) {
    fields.Fail(WrongField("top_logprobs", "is only for requests whose logprobs is true"));
  }
}

void ReadStop(Api api, Fields& fields, v1::StopConditions& stop) {
  auto limit = fields.Count("max_completion_tokens");
  if (!limit.has_value()) {
    limit = fields.Count("max_tokens");
  }
  if (limit.has_value() || api == Api::kCompletions) {
    stop.set_max_new_tokens(limit.value_or(kDefaultCompletionTokens));
  }
  if (const auto least = fields.Count("min_tokens"); least.has_value()) {
    stop.set_min_new_tokens(*least);
  }
  for (std::string& text : fields.Texts("stop")) {
    stop.add_stop_strings(std::move(text));
  }
  for (const std::uint32_t id : fields.Ids("stop_token_ids")) {
    stop.add_stop_token_ids(id);
  }
  if (const auto ignore = fields.Bool("ignore_eos"); ignore.has_value()) {
    stop.set_ignore_eos(*ignore);
  }
}

bool IsEmpty(const Json& value) {
  return value.empty() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

// What this server knows and does not do; honouring it silently would be a wrong answer.
void RefuseUnsupported(Fields& fields) {
  for (const char* name : {"suffix", "tools", "functions", "use_beam_search"}) {
    if (const Json* value = fields.Find(name); value != nullptr && !IsEmpty(*value)) {
      fields.Fail(UnsupportedField(name, "is not supported by this server: leave it out"));
    }
  }
  // Without tools there is nothing to choose.
  if (const Json* choice = fields.Find("tool_choice");
      choice != nullptr && *choice != "none" && *choice != "auto") {
    fields.Fail(UnsupportedField("tool_choice", "is not supported by this server: leave it out"));
  }
  if (const auto beams = fields.Count("num_beams"); beams.value_or(1) > 1) {
    fields.Fail(UnsupportedField("num_beams", "must be 1: beam search is not supported"));
  }
}

void ReadStreaming(Fields& fields, GenerateCall& call) {
  call.stream = fields.Bool("stream").value_or(false);
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) {
    return;
  }
  if (!options->is_object() || !call.stream) {
    fields.Fail(WrongField("stream_options", "must be an object, and needs stream to be true"));
    return;
  }
  Fields inner(*options);
  call.include_usage = inner.Bool("include_usage").value_or(false);
  fields.Fail(inner.status());
}

void ReadChoices(Fields& fields, GenerateCall& call, v1::GenerateRequest& request) {
  call.choices = static_cast<std::uint32_t>(fields.Integer("n", 1, kMaxChoices).value_or(1));
  request.set_n(call.choices);
  const auto best_of = fields.Integer("best_of", 1, kMaxChoices);
  if (!best_of.has_value() || *best_of == call.choices) {
    return;
  }
  if (*best_of < call.choices || call.stream) {
    fields.Fail(WrongField("best_of", "must not be less than n, and equal to it when streaming"));
    return;
  }
  request.set_n(static_cast<std::uint32_t>(*best_of));
  if (!request.sampling().has_logprobs()) {
    request.mutable_sampling()->set_logprobs(0);  // to compare them by
  }
}

bool IsListOfIds(const Json& value) {
  return value.is_array() && !value.empty() && value.front().is_number();
}

absl::Status AddPrompts(const Json* prompt, const v1::GenerateRequest& common, GenerateCall& call) {
  if (prompt == nullptr) {
    return WrongField("prompt", "is missing");
  }
  const auto add = [&](const Json& entry) -> absl::Status {
    v1::GenerateRequest& request = call.requests.emplace_back(common);
    if (entry.is_string()) {
      request.set_text(entry.get<std::string>());
      return absl::OkStatus();
    }
    YANGTUO_ASSIGN_OR_RETURN(const auto ids, TokenIdsOf("prompt", entry));
    request.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
    return absl::OkStatus();
  };
  if (!prompt->is_array() || IsListOfIds(*prompt)) {
    return add(*prompt);
  }
  if (prompt->empty() || prompt->size() > kMaxPrompts) {
    return WrongField(
        "prompt", absl::StrFormat("has %d entries, must have 1..%d", prompt->size(), kMaxPrompts));
  }
  for (const Json& entry : *prompt) {
    YANGTUO_RETURN_IF_ERROR(add(entry));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TextOfParts(const std::string& field, const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    const bool is_text = part.is_object() && part.contains("text") && part["text"].is_string();
    if (!is_text) {
      return UnsupportedField(field,
                              "has a part that is not text: this server reads only parts "
                              "like {\"type\": \"text\", \"text\": \"...\"}");
    }
    text += part["text"].get<std::string>();
  }
  return text;
}

absl::StatusOr<std::string> ContentOf(const std::string& path, const Json& message) {
  const char* name =
      message.contains("content") || !message.contains("message") ? "content" : "message";
  const std::string field = path + "." + name;
  const auto content = message.find(name);
  if (content == message.end()) {
    return WrongField(field, "is missing");
  }
  if (content->is_string()) {
    return content->get<std::string>();
  }
  if (content->is_array()) {
    return TextOfParts(field, *content);
  }
  if (content->is_null() && message["role"] == "assistant") {
    return "";  // what clients send back of an answer without a text
  }
  return WrongField(field, "must be a string or a list of text parts");
}

}  // namespace

absl::StatusOr<v1::ChatPrompt> ParseMessages(const Json& messages) {
  v1::ChatPrompt chat;
  if (messages.is_string()) {  // as the reference's demo servers take it
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role("user");
    message.set_content(messages.get<std::string>());
    return chat;
  }
  if (!messages.is_array()) {
    return WrongField("messages", "must be a list of messages");
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string path = absl::StrFormat("messages[%d]", i);
    const Json& entry = messages[i];
    if (!entry.is_object() || !entry.contains("role") || !entry["role"].is_string()) {
      return WrongField(path, "must be an object with a role and a content");
    }
    v1::ChatMessage& message = *chat.add_messages();
    const std::string role = entry["role"].get<std::string>();
    message.set_role(role == "developer" ? "system" : role);
    YANGTUO_ASSIGN_OR_RETURN(*message.mutable_content(), ContentOf(path, entry));
  }
  return chat;
}

absl::StatusOr<GenerateCall> ParseGenerateCall(Api api, const Json& body) {
  GenerateCall call{.api = api, .requests = {}};
  Fields fields(body);
  v1::GenerateRequest request;
  request.set_model(fields.Text("model").value_or(""));
  ReadSampling(fields, *request.mutable_sampling());
  ReadLogitBias(fields, *request.mutable_sampling());
  ReadLogprobs(api, fields, *request.mutable_sampling());
  ReadStop(api, fields, *request.mutable_stop());
  ReadConstraint(fields, *request.mutable_sampling());
  RefuseUnsupported(fields);
  call.logprobs = request.sampling().has_logprobs();
  ReadStreaming(fields, call);
  ReadChoices(fields, call, request);
  if (const auto echo = fields.Bool("echo"); echo.value_or(false)) {
    request.set_echo(true);
  }
  YANGTUO_RETURN_IF_ERROR(fields.status());
  if (api == Api::kCompletions) {
    YANGTUO_RETURN_IF_ERROR(AddPrompts(fields.Find("prompt"), request, call));
    return call;
  }
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) {
    return WrongField("messages", "is missing");
  }
  YANGTUO_ASSIGN_OR_RETURN(*request.mutable_chat(), ParseMessages(*messages));
  call.requests.push_back(std::move(request));
  return call;
}

}  // namespace yangtuo::gateway::openai
