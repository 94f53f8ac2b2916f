#include "gateway/openai/generate_answer.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"

namespace yangtuo::gateway::openai {
namespace {

const char* FinishReasonOf(const v1::ChoiceResult& result) {
  return result.finish_reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

Json UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"total_tokens", usage.prompt_tokens() + usage.completion_tokens()}};
}

void AddUsage(const v1::Usage& more, v1::Usage& sum) {
  sum.set_prompt_tokens(sum.prompt_tokens() + more.prompt_tokens());
  sum.set_completion_tokens(sum.completion_tokens() + more.completion_tokens());
}

Json BytesOf(const std::string& token) {
  Json bytes = Json::array();
  for (const char c : token) {
    bytes.push_back(static_cast<unsigned char>(c));
  }
  return bytes;
}

Json ChatToken(const v1::TokenLogprob& token) {
  return {
      {"token", token.token()}, {"logprob", token.logprob()}, {"bytes", BytesOf(token.token())}};
}

using Positions = std::span<const v1::PositionLogprobs>;

Json ChatLogprobs(Positions positions) {
  Json content = Json::array();
  for (const v1::PositionLogprobs& position : positions) {
    Json entry = ChatToken(position.chosen());
    entry["top_logprobs"] = Json::array();
    for (const v1::TokenLogprob& top : position.top()) {
      entry["top_logprobs"].push_back(ChatToken(top));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

// A token that is not whole characters cannot be a name in JSON: its bytes are spelled out.
std::string NameOf(const std::string& token) {
  const std::string written = Write(token);
  if (written.find("\xEF\xBF\xBD") == std::string::npos) {
    return token;
  }
  std::string name = "bytes:";
  for (const char c : token) {
    absl::StrAppendFormat(&name, "\\x%02x", static_cast<unsigned char>(c));
  }
  return name;
}

// Clients count characters, and bytes would not even be theirs in JSON.
std::size_t CountCharacters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

Json CompletionLogprobs(Positions positions, std::size_t offset) {
  Json all = {{"tokens", Json::array()},
              {"token_logprobs", Json::array()},
              {"top_logprobs", Json::array()},
              {"text_offset", Json::array()}};
  for (const v1::PositionLogprobs& position : positions) {
    const v1::TokenLogprob& chosen = position.chosen();
    all["tokens"].push_back(NameOf(chosen.token()));
    all["text_offset"].push_back(offset);
    offset += CountCharacters(chosen.token());
    if (chosen.no_logprob()) {  // the first token of an echoed prompt
      all["token_logprobs"].push_back(nullptr);
      all["top_logprobs"].push_back(nullptr);
      continue;
    }
    all["token_logprobs"].push_back(chosen.logprob());
    Json top = Json::object();
    for (const v1::TokenLogprob& one : position.top()) {
      top[NameOf(one.token())] = one.logprob();
    }
    all["top_logprobs"].push_back(std::move(top));
  }
  return all;
}

Json LogprobsJson(Api api, Positions positions, std::size_t offset) {
  return api == Api::kChat ? ChatLogprobs(positions) : CompletionLogprobs(positions, offset);
}

}  // namespace

std::string Event(const Json& value) { return "data: " + Write(value) + "\n\n"; }

WholeAnswer::WholeAnswer(const GenerateCall& call, AnswerIdentity identity)
    : api_(call.api),
      shown_(call.choices),
      logprobs_(call.logprobs),
      identity_(std::move(identity)),
      prompts_(call.requests.size()) {
  for (auto& choices : prompts_) {
    choices.resize(std::max(call.requests.front().n(), 1U));
  }
}

double WholeAnswer::Choice::MeanLogprob() const {
  double sum = 0;
  for (const v1::PositionLogprobs& position : logprobs) {
    sum += position.chosen().logprob();
  }
  return logprobs.empty() ? 0 : sum / static_cast<double>(logprobs.size());
}

void WholeAnswer::Add(std::size_t prompt, const v1::GenerateResponse& response) {
  std::vector<Choice>& choices = prompts_[prompt];
  if (response.has_started()) {
    model_ = response.started().model();
  } else if (response.has_delta() && response.delta().choice() < choices.size()) {
    Choice& choice = choices[response.delta().choice()];
    choice.text += response.delta().text();
    choice.logprobs.insert(choice.logprobs.end(), response.delta().logprobs().begin(),
                           response.delta().logprobs().end());
  } else if (response.has_finished()) {
    AddUsage(response.finished().usage(), usage_);
    for (const v1::ChoiceResult& result : response.finished().choices()) {
      if (result.choice() < choices.size()) {
        choices[result.choice()].result = result;
      }
    }
  }
}

Json WholeAnswer::ChoiceJson(const Choice& choice, std::size_t index) const {
  Json json = {{"index", index}, {"finish_reason", FinishReasonOf(choice.result)}};
  json["logprobs"] = logprobs_ ? LogprobsJson(api_, choice.logprobs, 0) : Json(nullptr);
  if (api_ == Api::kChat) {
    json["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
  } else {
    json["text"] = choice.text;
  }
  return json;
}

Json WholeAnswer::ToJson() const {
  Json choices = Json::array();
  for (const std::vector<Choice>& of_prompt : prompts_) {
    std::vector<const Choice*> best;
    for (const Choice& choice : of_prompt) {
      best.push_back(&choice);
    }
    if (best.size() > shown_) {
      std::stable_sort(best.begin(), best.end(), [](const Choice* a, const Choice* b) {
        return a->MeanLogprob() > b->MeanLogprob();
      });
      best.resize(shown_);
    }
    for (const Choice* choice : best) {
      choices.push_back(ChoiceJson(*choice, choices.size()));
    }
  }
  return {{"id", identity_.id},
          {"object", api_ == Api::kChat ? "chat.completion" : "text_completion"},
          {"created", identity_.created},
          {"model", model_},
          {"choices", std::move(choices)},
          {"usage", UsageJson(usage_)}};
}

StreamedAnswer::StreamedAnswer(const GenerateCall& call, AnswerIdentity identity)
    : api_(call.api),
      choices_(call.choices),
      include_usage_(call.include_usage),
      logprobs_(call.logprobs),
      identity_(std::move(identity)),
      text_offsets_(call.requests.size() * std::max(call.choices, 1U)) {}

Json StreamedAnswer::Chunk(Json choices) const {
  Json chunk = {{"id", identity_.id},
                {"object", api_ == Api::kChat ? "chat.completion.chunk" : "text_completion"},
                {"created", identity_.created},
                {"model", model_},
                {"choices", std::move(choices)}};
  if (include_usage_) {
    chunk["usage"] = nullptr;
  }
  return chunk;
}

Json StreamedAnswer::ChoiceChunk(std::size_t index, Json content, Json logprobs,
                                 Json finish_reason) const {
  Json choice = {{"index", index},
                 {"logprobs", std::move(logprobs)},
                 {"finish_reason", std::move(finish_reason)}};
  choice[api_ == Api::kChat ? "delta" : "text"] = std::move(content);
  return Chunk(Json::array({std::move(choice)}));
}

std::string StreamedAnswer::Events(std::size_t prompt, const v1::GenerateResponse& response) {
  const std::size_t first = prompt * choices_;
  std::string events;
  if (response.has_started()) {
    model_ = response.started().model();
    for (std::size_t i = 0; api_ == Api::kChat && i < choices_; ++i) {
      events +=
          Event(ChoiceChunk(first + i, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
    }
  } else if (response.has_delta()) {
    const v1::Delta& delta = response.delta();
    if (delta.text().empty() && delta.logprobs().empty()) {
      return events;  // only ids, which are not told here
    }
    const std::size_t index = first + delta.choice();
    const std::vector<v1::PositionLogprobs> positions(delta.logprobs().begin(),
                                                      delta.logprobs().end());
    Json logprobs = logprobs_ ? LogprobsJson(api_, positions, text_offsets_[index]) : Json(nullptr);
    Json content = api_ == Api::kChat ? Json{{"content", delta.text()}} : Json(delta.text());
    text_offsets_[index] += CountCharacters(delta.text());
    events = Event(ChoiceChunk(index, std::move(content), std::move(logprobs), nullptr));
  } else if (response.has_finished()) {
    AddUsage(response.finished().usage(), usage_);
    for (const v1::ChoiceResult& result : response.finished().choices()) {
      Json content = api_ == Api::kChat ? Json::object() : Json("");
      events += Event(ChoiceChunk(first + result.choice(), std::move(content), nullptr,
                                  FinishReasonOf(result)));
    }
  }
  return events;
}

std::string StreamedAnswer::LastEvents() const {
  std::string events;
  if (include_usage_) {
    Json chunk = Chunk(Json::array());
    chunk["usage"] = UsageJson(usage_);
    events = Event(chunk);
  }
  return events + "data: [DONE]\n\n";
}

}  // namespace yangtuo::gateway::openai
