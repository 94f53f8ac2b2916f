#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gateway/openai/generate_request.h"
#include "gateway/openai/json_body.h"
#include "yangtuo/v1/generation.pb.h"

// What the gateway's responses to one call look like in OpenAI's JSON. Not thread-safe.
namespace yangtuo::gateway::openai {

// "chatcmpl-..." or "cmpl-...", and the time.
struct AnswerIdentity {
  std::string id{};
  std::int64_t created = 0;  // Unix seconds
};

// Collects an answer that is told in one piece. Choice c of prompt p is choice p * n + c.
class WholeAnswer {
 public:
  WholeAnswer(const GenerateCall& call, AnswerIdentity identity);

  void Add(std::size_t prompt, const v1::GenerateResponse& response);
  // Once every prompt has finished.
  [[nodiscard]] Json ToJson() const;

 private:
  struct Choice {
    std::string text{};
    std::vector<v1::PositionLogprobs> logprobs{};
    v1::ChoiceResult result{};
    [[nodiscard]] double MeanLogprob() const;
  };
  [[nodiscard]] Json ChoiceJson(const Choice& choice, std::size_t index) const;

  const Api api_;
  const std::uint32_t shown_;
  const bool logprobs_;
  const AnswerIdentity identity_;
  std::string model_;
  v1::Usage usage_;
  std::vector<std::vector<Choice>> prompts_;
};

// Makes the events of a streamed answer, each "data: ...\n\n".
class StreamedAnswer {
 public:
  StreamedAnswer(const GenerateCall& call, AnswerIdentity identity);

  // The events that `response` becomes; "" for none.
  std::string Events(std::size_t prompt, const v1::GenerateResponse& response);
  // After the last prompt has finished: usage if asked for, and [DONE].
  [[nodiscard]] std::string LastEvents() const;

 private:
  [[nodiscard]] Json Chunk(Json choices) const;
  [[nodiscard]] Json ChoiceChunk(std::size_t index, Json content, Json logprobs,
                                 Json finish_reason) const;

  const Api api_;
  const std::uint32_t choices_;
  const bool include_usage_;
  const bool logprobs_;
  const AnswerIdentity identity_;
  std::string model_;
  v1::Usage usage_;
  std::vector<std::size_t> text_offsets_;  // bytes told, by choice index
};

// "data: <json>\n\n".
std::string Event(const Json& value);

}  // namespace yangtuo::gateway::openai
