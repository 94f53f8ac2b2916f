#include "tools/bench_gateway/token_producer.h"

#include <atomic>
#include <functional>
#include <queue>
#include <thread>
#include <utility>
#include <vector>

#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/server_callback.h"
#include "inference_core/base/mutex.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo::bench_gateway {
namespace {

constexpr auto kTick = std::chrono::milliseconds(1);
constexpr auto kStatusPeriod = std::chrono::milliseconds(500);

// One Generate call. Finished by the last token, or by the gateway's cancellation; deletes itself.
// The pacing thread's reference keeps it valid until it has been told that the call is over.
class ProducedStream final : public grpc::ServerWriteReactor<internal::v1::GenerateResponse>,
                             public std::enable_shared_from_this<ProducedStream> {
 public:
  ProducedStream(std::shared_ptr<TokenPlan> plan, std::size_t stream)
      : plan_(std::move(plan)), stream_(stream) {}

  void Begin() { self_ = shared_from_this(); }

  // One more token is due. False when the stream needs no more.
  bool Produce() ABSL_LOCKS_EXCLUDED(mutex_) {
    bool write = false;
    bool more = false;
    {
      const MutexLock lock(mutex_);
      if (finished_ || produced_ == plan_->num_tokens()) {
        return false;
      }
      plan_->MarkSent(stream_, produced_);
      ++produced_;
      more = produced_ < plan_->num_tokens();
      write = PrepareWrite();
    }
    if (write) {
      StartWrite(&response_);
    }
    return more;
  }

 private:
  // Everything that is produced and not yet written goes into one message.
  bool PrepareWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) {
      return false;
    }
    response_.Clear();
    if (written_ < produced_) {
      for (; written_ < produced_; ++written_) {
        response_.mutable_delta()->add_ids(plan_->Token(stream_, written_));
      }
    } else if (written_ == plan_->num_tokens() && !last_written_) {
      last_written_ = true;
      response_.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
      response_.mutable_finished()->set_generated_tokens(static_cast<std::uint32_t>(written_));
    } else {
      return false;
    }
    writing_ = true;
    return true;
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_) {
    bool write = false;
    bool finish = false;
    {
      const MutexLock lock(mutex_);
      writing_ = false;
      write = ok && !cancelled_ && PrepareWrite();
      finish = !write && !finished_ && (!ok || cancelled_ || last_written_);
      finished_ = finished_ || finish;
    }
    if (write) {
      StartWrite(&response_);
    } else if (finish) {
      Finish(grpc::Status::OK);
    }
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_) {
    bool finish = false;
    {
      const MutexLock lock(mutex_);
      cancelled_ = true;
      finish = !writing_ && !finished_;
      finished_ = finished_ || finish;
    }
    if (finish) {
      Finish(grpc::Status::CANCELLED);
    }
  }

  void OnDone() override { const std::shared_ptr<ProducedStream> last = std::move(self_); }

  const std::shared_ptr<TokenPlan> plan_;
  const std::size_t stream_;
  std::shared_ptr<ProducedStream> self_;
  Mutex mutex_;
  std::size_t produced_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t written_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_written_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  internal::v1::GenerateResponse response_;
};

}  // namespace

// Generate has thousands of calls and is served by reactions; WatchStatus has one call a gateway
// and may have its thread.
struct TokenProducer::State final
    : public internal::v1::InferenceService::WithCallbackMethod_Generate<
          internal::v1::InferenceService::Service> {
  struct Due {
    std::int64_t at;
    std::shared_ptr<ProducedStream> stream;
    bool operator>(const Due& other) const { return at > other.at; }
  };
  using Queue = std::priority_queue<Due, std::vector<Due>, std::greater<>>;

  grpc::ServerWriteReactor<internal::v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* /*context*/,
      const internal::v1::GenerateRequest* request) override ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    auto stream = std::make_shared<ProducedStream>(
        plan, static_cast<std::size_t>(request->sampling().seed()) % plan->num_streams());
    stream->Begin();
    waiting.push_back(stream);
    ++begun;
    return stream.get();
  }

  grpc::Status WatchStatus(grpc::ServerContext* context,
                           const internal::v1::WatchStatusRequest* /*request*/,
                           grpc::ServerWriter<internal::v1::WatchStatusResponse>* writer) override {
    internal::v1::WatchStatusResponse response;
    *response.mutable_status() = status;
    while (!context->IsCancelled() && !stop && writer->Write(response)) {
      std::this_thread::sleep_for(kStatusPeriod);
    }
    return grpc::Status::OK;
  }

  // Moves released streams into the queue, spread over one interval: the worst case for whoever
  // would like tokens to arrive together.
  void Admit(Queue& queue) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (!released) {
      return;
    }
    const std::int64_t now = NowNanoseconds();
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      const double phase = static_cast<double>(i) / static_cast<double>(waiting.size());
      queue.push({.at = now + static_cast<std::int64_t>(phase * static_cast<double>(interval)),
                  .stream = std::move(waiting[i])});
    }
    waiting.clear();
  }

  void Pace() ABSL_LOCKS_EXCLUDED(mutex) {
    Queue queue;
    while (!stop) {
      std::int64_t step = 0;
      {
        const MutexLock lock(mutex);
        Admit(queue);
        step = interval;
      }
      const std::int64_t now = NowNanoseconds();
      while (!queue.empty() && queue.top().at <= now) {
        Due due = queue.top();
        queue.pop();
        if (due.stream->Produce()) {
          due.at += step;
          queue.push(std::move(due));
        }
      }
      std::this_thread::sleep_for(kTick);
    }
  }

  internal::v1::WorkerStatus status;
  int port = 0;
  std::atomic<bool> stop = false;
  mutable Mutex mutex;
  std::shared_ptr<TokenPlan> plan ABSL_GUARDED_BY(mutex);
  std::int64_t interval ABSL_GUARDED_BY(mutex) = 0;
  bool released ABSL_GUARDED_BY(mutex) = false;
  std::size_t begun ABSL_GUARDED_BY(mutex) = 0;
  std::vector<std::shared_ptr<ProducedStream>> waiting ABSL_GUARDED_BY(mutex);
  std::unique_ptr<grpc::Server> server;
  std::thread pacer;
};

absl::StatusOr<std::unique_ptr<TokenProducer>> TokenProducer::Start(
    const ProducerIdentity& identity) {
  auto state = std::make_unique<State>();
  state->status.set_model(identity.model);
  state->status.set_model_digest("token-producer");
  state->status.set_numerics_id("token-producer");
  state->status.set_tokenizer_digest(identity.tokenizer_digest);
  state->status.set_weight_type("f32");
  state->status.set_context_tokens(1U << 24U);
  state->status.set_vocabulary_size(identity.vocabulary_size);
  state->status.set_num_shards(1);
  state->status.set_ready(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &state->port);
  builder.AddChannelArgument("grpc.http2.min_ping_interval_without_data_ms", 1000);
  builder.RegisterService(state.get());
  state->server = builder.BuildAndStart();
  if (state->server == nullptr || state->port == 0) {
    return absl::UnavailableError("no port on 127.0.0.1 for the token producer");
  }
  state->pacer = std::thread([state = state.get()] { state->Pace(); });
  return std::unique_ptr<TokenProducer>(new TokenProducer(std::move(state)));
}

TokenProducer::TokenProducer(std::unique_ptr<State> state) : state_(std::move(state)) {}

TokenProducer::~TokenProducer() {
  state_->stop = true;
  state_->pacer.join();
  state_->server->Shutdown(std::chrono::system_clock::now());
  state_->server->Wait();
}

std::string TokenProducer::address() const {
  return std::string("127.0.0.1:").append(std::to_string(state_->port));
}

void TokenProducer::SetPlan(std::shared_ptr<TokenPlan> plan, double tokens_per_second) {
  const MutexLock lock(state_->mutex);
  state_->plan = std::move(plan);
  state_->interval = static_cast<std::int64_t>(1e9 / tokens_per_second);
  state_->released = false;
  state_->begun = 0;
}

void TokenProducer::Release() {
  const MutexLock lock(state_->mutex);
  state_->released = true;
}

std::size_t TokenProducer::streams_begun() const {
  const MutexLock lock(state_->mutex);
  return state_->begun;
}

}  // namespace yangtuo::bench_gateway
