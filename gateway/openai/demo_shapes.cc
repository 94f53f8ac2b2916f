#include "gateway/openai/demo_shapes.h"

#include <string_view>
#include <utility>

namespace yangtuo::gateway::openai {
namespace {

constexpr std::string_view kData = "data: ";
constexpr std::string_view kEnd = "\n\n";
constexpr int kUnprocessable = 422;

bool IsChat(const Json& answer) {
  const std::string object = answer.value("object", "");
  return object.rfind("chat.", 0) == 0;
}

std::string TextOf(const Json& message) {
  for (const char* name : {"content", "message"}) {
    if (message.contains(name) && message[name].is_string()) {
      return message[name].get<std::string>();
    }
  }
  return "";
}

// The messages of a request as choices of its answer.
Json Dialogue(const Json& messages) {
  Json choices = Json::array();
  const auto add = [&choices](const std::string& role, const std::string& content) {
    choices.push_back(
        {{"index", choices.size()}, {"message", {{"role", role}, {"content", content}}}});
  };
  if (messages.is_string()) {
    add("user", messages.get<std::string>());
  } else if (messages.is_array()) {
    for (const Json& message : messages) {
      if (message.is_object() && message.contains("role") && message["role"].is_string()) {
        add(message["role"].get<std::string>(), TextOf(message));
      }
    }
  }
  return choices;
}

Json ChunkOf(const Json& event) {
  Json choices = Json::array();
  for (const Json& choice : event["choices"]) {
    Json delta = choice["delta"];
    if (delta.contains("role")) {
      delta = {{"role", delta["role"]}};
    }
    // They end with "stop" whatever the reason.
    const Json reason = choice["finish_reason"].is_null() ? Json(nullptr) : Json("stop");
    choices.push_back(
        {{"index", choice["index"]}, {"delta", std::move(delta)}, {"finish_reason", reason}});
  }
  return {{"object", event["object"]}, {"model", event["model"]}, {"choices", std::move(choices)}};
}

std::string DemoEvent(const std::string& text) {
  const Json event = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!event.is_object() || !IsChat(event)) {
    return text;  // "[DONE]"; completions have no stream there
  }
  // The one with the usage has no choices.
  return event["choices"].empty() ? "" : Write(ChunkOf(event));
}

}  // namespace

void TakeDemoDefaults(Json& body) {
  const Json defaults = {{"temperature", 0.2},
                         {"top_k", 40},
                         {"top_p", 0.9},
                         {"repetition_penalty", 1.1},
                         {"max_tokens", 512}};
  for (const auto& [name, value] : defaults.items()) {
    if (!body.contains(name) || body[name].is_null()) {
      body[name] = value;
    }
  }
  for (const char* ignored : {"user", "logprobs", "top_logprobs", "echo", "encoding_format"}) {
    body.erase(ignored);
  }
}

void WrapPrompts(GenerateCall& call) {
  for (v1::GenerateRequest& request : call.requests) {
    if (request.prompt_case() == v1::GenerateRequest::kText) {
      std::string text = std::move(*request.mutable_text());
      v1::ChatMessage& message = *request.mutable_chat()->add_messages();
      message.set_role("user");
      message.set_content(std::move(text));
    }
  }
}

Json DemoAnswer(const Json& body, const Json& answer) {
  const bool chat = IsChat(answer);
  Json choices =
      chat && body.contains("messages") ? Dialogue(body["messages"]) : Json(Json::array());
  for (const Json& choice : answer["choices"]) {
    if (chat) {
      choices.push_back(
          {{"index", choices.size()},
           {"message", {{"role", "assistant"}, {"content", choice["message"]["content"]}}}});
    } else {
      choices.push_back({{"index", choices.size()}, {"text", choice["text"]}});
    }
  }
  return {{"id", answer["id"]},
          {"object", answer["object"]},
          {"created", answer["created"]},
          {"model", answer["model"]},
          {"choices", std::move(choices)}};
}

std::string DemoEvents(const std::string& events) {
  std::string changed;
  std::string_view rest = events;
  while (rest.substr(0, kData.size()) == kData) {
    const std::size_t end = rest.find(kEnd);
    const std::string event = DemoEvent(std::string(rest.substr(kData.size(), end - kData.size())));
    if (!event.empty()) {
      changed.append(kData).append(event).append(kEnd);
    }
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + kEnd.size());
  }
  return changed;
}

Json DemoEmbeddings(const Json& body, const Json& answer) {
  const bool list = body.contains("input") && body["input"].is_array();
  Json vectors = Json::array();
  for (const Json& item : answer["data"]) {
    vectors.push_back(item["embedding"]);
  }
  Json embedding = list || vectors.empty() ? std::move(vectors) : vectors.front();
  return {
      {"object", "list"},
      {"data",
       Json::array({{{"object", "embedding"}, {"embedding", std::move(embedding)}, {"index", 0}}})},
      {"model", answer["model"]}};
}

HttpError DemoError(const absl::Status& status) {
  HttpError error = ToHttpError(status);
  const Json ours = error.body["error"];
  if (error.status != 400) {
    error.body = {{"detail", ours["message"]}};
    return error;
  }
  error.status = kUnprocessable;
  Json place = Json::array({"body"});
  if (ours["param"].is_string()) {
    place.push_back(ours["param"]);
  }
  error.body = {{"detail", Json::array({{{"loc", std::move(place)},
                                         {"msg", ours["message"]},
                                         {"type", "value_error"}}})}};
  return error;
}

}  // namespace yangtuo::gateway::openai
