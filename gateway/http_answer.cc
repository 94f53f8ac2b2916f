#include "gateway/http_answer.h"

#include <utility>

#include "gateway/openai/demo_shapes.h"
#include "gateway/openai/error_body.h"

namespace yangtuo::gateway {
namespace {

HttpResponse ToResponse(const openai::HttpError& error) {
  HttpResponse response = JsonResponse(error.body, error.status);
  if (error.retry_after_seconds.has_value()) {
    response.headers.emplace_back("Retry-After", std::to_string(*error.retry_after_seconds));
  }
  if (error.status == 401) {
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
  }
  return response;
}

}  // namespace

HttpResponse JsonResponse(const openai::Json& body, int status) {
  return {.status = status, .body = openai::Write(body) + "\n"};
}

HttpResponse ErrorResponse(const absl::Status& status) {
  return ToResponse(openai::ToHttpError(status));
}

HttpResponse DemoErrorResponse(const absl::Status& status) {
  return ToResponse(openai::DemoError(status));
}

class HttpAnswer::PromptSink final : public ResponseSink {
 public:
  PromptSink(std::shared_ptr<HttpAnswer> answer, std::size_t prompt)
      : answer_(std::move(answer)), prompt_(prompt) {}

  SinkRoom Add(v1::GenerateResponse response) override { return answer_->Add(prompt_, response); }
  void Flush() override {}  // the exchange sends what it has
  void End(const absl::Status& status) override { answer_->End(status); }

 private:
  const std::shared_ptr<HttpAnswer> answer_;
  const std::size_t prompt_;
};

HttpAnswer::HttpAnswer(const openai::GenerateCall& call, openai::AnswerIdentity identity,
                       std::shared_ptr<HttpExchange> exchange, Options options)
    : exchange_(std::move(exchange)),
      options_(std::move(options)),
      stream_(call.stream),
      whole_(call, identity),
      streamed_(call, identity),
      open_(call.requests.size()) {}

std::shared_ptr<ResponseSink> HttpAnswer::SinkOf(std::size_t prompt) {
  return std::make_shared<PromptSink>(shared_from_this(), prompt);
}

void HttpAnswer::Attach(std::vector<std::shared_ptr<GenerationFlow>> flows) {
  bool stopped = false;
  {
    const MutexLock lock(mutex_);
    if (open_ > 0) {
      flows_ = std::move(flows);
    }
    stopped = stopped_;
  }
  if (stopped) {
    CancelFlows();
    return;
  }
  exchange_->OnGone([answer = weak_from_this()] {
    if (const auto alive = answer.lock(); alive != nullptr) {
      alive->CancelFlows();
    }
  });
}

SinkRoom HttpAnswer::Add(std::size_t prompt, const v1::GenerateResponse& response) {
  const MutexLock lock(mutex_);
  if (ended_) {
    return SinkRoom::kLeft;
  }
  if (!stream_) {
    whole_.Add(prompt, response);
    return SinkRoom::kLeft;
  }
  const std::string events = Shaped(streamed_.Events(prompt, response));
  if (!begun_) {
    first_events_ += events;
    if (response.has_started()) {
      return SinkRoom::kLeft;
    }
    begun_ = true;
    exchange_->Begin({.content_type = "text/event-stream",
                      .body = std::move(first_events_),
                      .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
    return SinkRoom::kLeft;
  }
  return !events.empty() && exchange_->Send(events) > options_.buffer_bytes ? SinkRoom::kFull
                                                                            : SinkRoom::kLeft;
}

void HttpAnswer::End(const absl::Status& status) {
  bool failed = false;
  std::vector<std::shared_ptr<GenerationFlow>> done;  // freed without the lock
  {
    const MutexLock lock(mutex_);
    --open_;
    if (!ended_ && (!status.ok() || open_ == 0)) {
      ended_ = true;
      EndWith(status);
    }
    failed = !status.ok() && open_ > 0;
    stopped_ = stopped_ || failed;
    if (open_ == 0) {
      done.swap(flows_);
    }
  }
  if (failed) {
    CancelFlows();
  }
}

void HttpAnswer::EndWith(const absl::Status& status) {
  if (status.ok() && !stream_) {
    const openai::Json answer = whole_.ToJson();
    exchange_->Respond(JsonResponse(
        options_.demo_body.has_value() ? openai::DemoAnswer(*options_.demo_body, answer) : answer));
  } else if (!begun_) {
    exchange_->Respond(options_.demo_body.has_value() ? DemoErrorResponse(status)
                                                      : ErrorResponse(status));
  } else if (status.ok()) {
    exchange_->Send(Shaped(streamed_.LastEvents()));
    exchange_->End();
  } else {
    if (DropsUnsent(status)) {
      exchange_->DropUnsent();
    }
    exchange_->Send(openai::Event(openai::ToHttpError(status).body));
    exchange_->End();
  }
}

std::string HttpAnswer::Shaped(std::string events) const {
  return options_.demo_body.has_value() ? openai::DemoEvents(events) : std::move(events);
}

void HttpAnswer::CancelFlows() {
  std::vector<std::shared_ptr<GenerationFlow>> flows;
  {
    const MutexLock lock(mutex_);
    stopped_ = true;
    flows = flows_;
  }
  for (const auto& flow : flows) {
    flow->Cancel();
  }
}

}  // namespace yangtuo::gateway
