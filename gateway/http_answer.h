#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gateway/generation_flow.h"
#include "gateway/http/http_exchange.h"
#include "gateway/openai/generate_answer.h"
#include "gateway/openai/generate_request.h"
#include "gateway/response_sink.h"
#include "inference_core/base/mutex.h"

namespace yangtuo::gateway {

HttpResponse JsonResponse(const openai::Json& body, int status = 200);
// The error in OpenAI's shape, with Retry-After where it helps.
HttpResponse ErrorResponse(const absl::Status& status);
// The same in the shape of the demo servers.
HttpResponse DemoErrorResponse(const absl::Status& status);

// One HTTP answer to one generating call, which may have several prompts and so several flows. The
// flows share it, each through the sink of its prompt. Thread-safe.
//
// A streamed answer begins with the first token, so that what goes wrong before (a full queue, no
// group that is ready) is an HTTP status; what goes wrong later is an event {"error": ...} in place
// of the last ones. A client that reads too slowly gets such an event instead of what it has not
// read.
class HttpAnswer : public std::enable_shared_from_this<HttpAnswer> {
 public:
  struct Options {
    std::size_t buffer_bytes = 0;
    // Of the request: the answer has the shape of the demo servers, which repeat parts of it.
    std::optional<openai::Json> demo_body{};
  };
  HttpAnswer(const openai::GenerateCall& call, openai::AnswerIdentity identity,
             std::shared_ptr<HttpExchange> exchange, Options options);

  std::shared_ptr<ResponseSink> SinkOf(std::size_t prompt);
  // The flows, once they run: cancelled when the client leaves, or when one of them fails.
  void Attach(std::vector<std::shared_ptr<GenerationFlow>> flows) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class PromptSink;

  SinkRoom Add(std::size_t prompt, const v1::GenerateResponse& response)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndWith(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelFlows() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::string Shaped(std::string events) const;

  const std::shared_ptr<HttpExchange> exchange_;
  const Options options_;
  const bool stream_;

  Mutex mutex_;
  openai::WholeAnswer whole_ ABSL_GUARDED_BY(mutex_);
  openai::StreamedAnswer streamed_ ABSL_GUARDED_BY(mutex_);
  std::size_t open_ ABSL_GUARDED_BY(mutex_);          // flows that have not ended
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;        // the head of a streamed answer is out
  std::string first_events_ ABSL_GUARDED_BY(mutex_);  // until then
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;        // the answer is complete
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;      // flows are to be cancelled
  std::vector<std::shared_ptr<GenerationFlow>> flows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
