#include "tests/testing/fake_worker.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "tests/testing/fake_tokenizer.h"

namespace yangtuo::testing {
namespace {

// How often a waiting call looks whether it was cancelled.
constexpr auto kPoll = std::chrono::milliseconds(2);

bool SleepUnlessCancelled(const grpc::ServerContext& context, std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (!context.IsCancelled() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(
        std::min<std::chrono::nanoseconds>(kPoll, end - std::chrono::steady_clock::now()));
  }
  return !context.IsCancelled();
}

yangtuo::v1::PositionLogprobs Logprobs(std::uint32_t id, std::uint32_t num_top) {
  yangtuo::v1::PositionLogprobs entry;
  entry.mutable_chosen()->set_token_id(id);
  entry.mutable_chosen()->set_logprob(-1);
  for (std::uint32_t i = 0; i < num_top; ++i) {
    auto& top = *entry.add_top();
    top.set_token_id(FakeTokenizer::kFirstByte + 'a' + i);
    top.set_logprob(-1 - static_cast<float>(i));
  }
  return entry;
}

}  // namespace

class FakeWorker::Running {
 public:
  explicit Running(FakeWorker& worker) : worker_(worker) { Add(1); }
  ~Running() { Add(-1); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  void Add(int change) {
    const MutexLock lock(worker_.mutex_);
    worker_.running_ += change;
  }
  FakeWorker& worker_;
};

FakeWorker::FakeWorker(FakeWorkerScript script) : script_(std::move(script)), server_(*this) {
  const MutexLock lock(mutex_);
  status_.set_model("fake-model");
  status_.set_model_digest("fake-digest");
  status_.set_numerics_id("fake-numerics");
  status_.set_tokenizer_digest("fake-tokenizer");
  status_.set_weight_type("f32");
  status_.set_context_tokens(512);
  status_.set_vocabulary_size(FakeTokenizer::kVocabulary);
  status_.set_hidden_size(8);
  status_.set_num_shards(1);
  status_.set_ready(true);
}

void FakeWorker::Kill() { server_.Kill(); }

void FakeWorker::SetScript(FakeWorkerScript script) {
  const MutexLock lock(mutex_);
  script_ = std::move(script);
}

void FakeWorker::SetStatus(const std::function<void(internal::v1::WorkerStatus&)>& change) {
  const MutexLock lock(mutex_);
  change(status_);
  changed_.NotifyAll();
}

void FakeWorker::SetSilent(bool silent) {
  const MutexLock lock(mutex_);
  silent_ = silent;
}

std::vector<internal::v1::GenerateRequest> FakeWorker::requests() const {
  const MutexLock lock(mutex_);
  return requests_;
}

int FakeWorker::running() const {
  const MutexLock lock(mutex_);
  return running_;
}

std::string FakeWorker::last_request_id() const {
  const MutexLock lock(mutex_);
  return last_request_id_;
}

grpc::Status FakeWorker::Generate(grpc::ServerContext* context,
                                  const internal::v1::GenerateRequest* request,
                                  grpc::ServerWriter<internal::v1::GenerateResponse>* writer) {
  const Running running(*this);
  FakeWorkerScript script;
  {
    const MutexLock lock(mutex_);
    requests_.push_back(*request);
    const auto id = context->client_metadata().find("x-request-id");
    if (id != context->client_metadata().end()) {
      last_request_id_ = std::string(id->second.data(), id->second.size());
    }
    script = script_;
  }
  std::vector<std::uint32_t> ids = script.answer(*request);
  const std::size_t limit = request->stop().max_new_tokens();
  const bool cut = limit > 0 && ids.size() > limit;
  ids.resize(cut ? limit : ids.size());
  const bool logprobs = request->sampling().has_logprobs();
  internal::v1::GenerateResponse response;
  if (request->prompt_logprobs()) {
    for (int i = 1; i < request->prompt_ids_size(); ++i) {
      *response.mutable_delta()->add_prompt_logprobs() =
          Logprobs(request->prompt_ids(i), request->sampling().logprobs());
    }
    writer->Write(response);
  }
  const auto resumed = static_cast<std::size_t>(request->resumed_ids_size());
  for (std::size_t i = resumed; i < ids.size(); ++i) {
    if (script.fail_at == i || script.fail_after == i - resumed) {
      return script.failure;
    }
    if (script.hold_at == i) {
      SleepUnlessCancelled(*context, std::chrono::hours(1));
    }
    if (!SleepUnlessCancelled(*context, script.interval)) {
      return grpc::Status::CANCELLED;
    }
    response.Clear();
    response.mutable_delta()->add_ids(ids[i]);
    if (i == resumed) {
      response.mutable_delta()->set_cached_prompt_tokens(script.cached_prompt_tokens);
    }
    if (logprobs) {
      *response.mutable_delta()->add_logprobs() = Logprobs(ids[i], request->sampling().logprobs());
    }
    writer->Write(response);
  }
  response.Clear();
  auto& finished = *response.mutable_finished();
  finished.set_reason(cut ? yangtuo::v1::FINISH_REASON_LENGTH : yangtuo::v1::FINISH_REASON_STOP);
  if (!cut) {
    finished.set_stop_token_id(script.stop_token_id.value_or(FakeTokenizer::kEos));
  }
  finished.set_generated_tokens(static_cast<std::uint32_t>(ids.size() - resumed));
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeWorker::Embed(grpc::ServerContext* /*context*/,
                               const internal::v1::EmbedRequest* request,
                               internal::v1::EmbedResponse* response) {
  const Running running(*this);
  FakeWorkerScript script;
  {
    const MutexLock lock(mutex_);
    script = script_;
  }
  // A text's embedding tells its length, so that a test sees the order.
  response->add_values(static_cast<float>(request->ids_size()));
  return script.embed ? script.embed(*request) : grpc::Status::OK;
}

grpc::Status FakeWorker::WatchStatus(
    grpc::ServerContext* context, const internal::v1::WatchStatusRequest* /*request*/,
    grpc::ServerWriter<internal::v1::WatchStatusResponse>* writer) {
  while (!context->IsCancelled()) {
    internal::v1::WatchStatusResponse response;
    bool silent = false;
    {
      const MutexLock lock(mutex_);
      *response.mutable_status() = status_;
      response.mutable_status()->mutable_load()->set_running(static_cast<std::uint32_t>(running_));
      silent = silent_;
    }
    if (!silent && !writer->Write(response)) {
      break;
    }
    const MutexLock lock(mutex_);
    changed_.WaitUntil(mutex_, std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
  }
  return grpc::Status::OK;
}

}  // namespace yangtuo::testing
