#include "gateway/request_trace.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace yangtuo::gateway {
namespace {

constexpr char kOperation[] = "gen_ai.operation.name";
constexpr char kProvider[] = "gen_ai.provider.name";

// OpenAI's words.
std::string ReasonOfFinish(v1::FinishReason reason) {
  return reason == v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

void TraceSampling(const v1::SamplingParams& sampling, const Span& span) {
  const auto number = [&span](const char* key, bool given, float value) {
    if (given) {
      span.Set(key, double{value});
    }
  };
  number("gen_ai.request.temperature", sampling.has_temperature(), sampling.temperature());
  number("gen_ai.request.top_p", sampling.has_top_p(), sampling.top_p());
  number("gen_ai.request.presence_penalty", sampling.has_presence_penalty(),
         sampling.presence_penalty());
  number("gen_ai.request.frequency_penalty", sampling.has_frequency_penalty(),
         sampling.frequency_penalty());
  if (sampling.has_top_k()) {
    span.Set("gen_ai.request.top_k", static_cast<double>(sampling.top_k()));
  }
  if (sampling.has_seed()) {
    span.Set("gen_ai.request.seed", static_cast<std::int64_t>(sampling.seed()));
  }
}

}  // namespace

std::string OperationOf(const v1::GenerateRequest& request) {
  return request.has_chat() ? "chat" : "text_completion";
}

void TraceRequest(const v1::GenerateRequest& request, const Span& span) {
  if (!span.recording()) {
    return;
  }
  span.SetName(OperationOf(request));
  span.Set(kOperation, OperationOf(request));
  if (!request.model().empty()) {
    span.Set("gen_ai.request.model", request.model());
  }
  if (request.stop().has_max_new_tokens()) {
    span.Set("gen_ai.request.max_tokens", std::int64_t{request.stop().max_new_tokens()});
  }
  if (request.has_n() && request.n() != 1) {
    span.Set("gen_ai.request.choice.count", std::int64_t{request.n()});
  }
  TraceSampling(request.sampling(), span);
}

void TraceModel(const std::string& operation, const std::string& model, const Span& span) {
  if (!span.recording()) {
    return;
  }
  span.SetName(absl::StrCat(operation, " ", model));
  span.Set(kOperation, operation);
  span.Set(kProvider, std::string("yangtuo"));
  span.Set("gen_ai.request.model", model);
  span.Set("gen_ai.response.model", model);
}

void TraceFinished(const v1::Finished& finished, const Span& span) {
  if (!span.recording()) {
    return;
  }
  std::vector<std::string> reasons;
  for (const v1::ChoiceResult& choice : finished.choices()) {
    reasons.push_back(ReasonOfFinish(choice.finish_reason()));
  }
  span.Set("gen_ai.response.finish_reasons", std::move(reasons));
  span.Set("gen_ai.usage.cache_read.input_tokens",
           std::int64_t{finished.usage().cached_prompt_tokens()});
}

}  // namespace yangtuo::gateway
