// Bodies of the HTTP API: whatever they say, they become a request or an error in OpenAI's shape,
// and what is written about them is JSON.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gateway/openai/error_body.h"
#include "gateway/openai/generate_answer.h"
#include "gateway/openai/generate_request.h"
#include "gateway/openai/other_calls.h"

namespace yangtuo::gateway::openai {
namespace {

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void CheckError(const absl::Status& status) {
  const HttpError error = ToHttpError(status);
  Require(error.status >= 400 && error.status < 600);
  Require(Json::parse(Write(error.body))["error"]["message"].is_string());
}

// Answers that call with the client's own bytes as text, in one piece and as a stream.
void Answer(const GenerateCall& call, std::string_view text) {
  if (call.requests.front().n() > 16 || call.choices > 16) {
    return;  // the gateway's own checks refuse it
  }
  v1::GenerateResponse response;
  response.mutable_delta()->set_text(std::string(text));
  auto& position = *response.mutable_delta()->add_logprobs();
  position.mutable_chosen()->set_token(std::string(text));
  position.mutable_chosen()->set_logprob(-1);
  *position.add_top() = position.chosen();
  StreamedAnswer streamed(call, {.id = "id"});
  const std::string event = streamed.Events(0, response);
  Require(event.rfind("data: ", 0) == 0 && event.find("\n\n") == event.size() - 2);
  Require(Json::parse(event.substr(6)).is_object());
  WholeAnswer whole(call, {.id = "id"});
  whole.Add(0, response);
  Require(Json::parse(Write(whole.ToJson())).is_object());
}

void Check(std::string_view bytes) {
  const auto body = ParseBody(bytes);
  if (!body.ok()) {
    CheckError(body.status());
    return;
  }
  for (const Api api : {Api::kChat, Api::kCompletions}) {
    const auto call = ParseGenerateCall(api, *body);
    if (call.ok()) {
      Require(!call->requests.empty());
      Answer(*call, bytes);
    } else {
      CheckError(call.status());
    }
  }
  if (const auto embed = ParseEmbedCall(*body); !embed.ok()) {
    CheckError(embed.status());
  }
  if (const auto tokenize = ParseTokenizeCall(*body); !tokenize.ok()) {
    CheckError(tokenize.status());
  }
  if (const auto detokenize = ParseDetokenizeCall(*body); !detokenize.ok()) {
    CheckError(detokenize.status());
  }
}

}  // namespace
}  // namespace yangtuo::gateway::openai

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  yangtuo::gateway::openai::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
