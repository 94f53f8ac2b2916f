#include "tools/bench_gateway/load_clients.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_format.h"
#include "grpcpp/channel.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/client_callback.h"
#include "inference_core/base/mutex.h"
#include "services/common/status.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo::bench_gateway {
namespace {

// One connection's reads are one thread's work; a few share it.
constexpr std::size_t kConnections = 4;
constexpr auto kStreamLimit = std::chrono::minutes(10);

struct Shared {
  std::atomic<std::uint64_t> tokens = 0;
  Mutex mutex;
  CondVar ended;
  std::size_t open ABSL_GUARDED_BY(mutex) = 0;
};

// One client's stream; owned by the State, which waits for OnDone.
class ClientStream final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  ClientStream(const LoadClients::Options& options, std::size_t index, Shared& shared)
      : plan_(options.plan),
        index_(index),
        first_measured_(options.first_measured),
        shared_(shared) {
    request_.set_model(options.model);
    request_.mutable_token_ids()->add_ids(1);
    request_.mutable_sampling()->set_seed(index);
    request_.mutable_stop()->set_max_new_tokens(static_cast<std::uint32_t>(plan_->num_tokens()));
    request_.mutable_stop()->set_ignore_eos(true);
    delays_.reserve(plan_->num_tokens() - std::min(first_measured_, plan_->num_tokens()));
  }

  void Begin(v1::GenerationService::Stub& stub) {
    context_.set_deadline(std::chrono::system_clock::now() + kStreamLimit);
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  // After the end.
  void AddTo(LoadReport& report) const {
    const bool complete = status_.ok() && next_ == plan_->num_tokens() && wrong_ == 0;
    ++(complete ? report.streams_ok : report.streams_failed);
    if (!complete && report.first_error.empty()) {
      report.first_error = status_.ok()
                               ? absl::StrFormat("stream %d: %d of %d tokens, %d wrong", index_,
                                                 next_, plan_->num_tokens(), wrong_)
                               : absl::StrFormat("stream %d: %s", index_, status_.error_message());
    }
    report.tokens += next_ - wrong_;
    report.tokens_wrong += wrong_;
    report.delays.insert(report.delays.end(), delays_.begin(), delays_.end());
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      return;
    }
    if (response_.has_delta()) {
      Compare(response_.delta());
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    status_ = status;
    const MutexLock lock(shared_.mutex);
    if (--shared_.open == 0) {
      shared_.ended.NotifyAll();
    }
  }

  void Compare(const v1::Delta& delta) {
    const std::int64_t now = NowNanoseconds();
    for (const std::uint32_t id : delta.token_ids()) {
      if (next_ >= plan_->num_tokens() || id != plan_->Token(index_, next_)) {
        ++wrong_;
      } else if (next_ >= first_measured_) {
        delays_.push_back(static_cast<float>(now - plan_->SentAt(index_, next_)) * 1e-9F);
      }
      ++next_;
    }
    shared_.tokens += static_cast<std::uint64_t>(delta.token_ids_size());
  }

  const std::shared_ptr<TokenPlan> plan_;
  const std::size_t index_;
  const std::size_t first_measured_;
  Shared& shared_;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  grpc::Status status_;
  std::size_t next_ = 0;
  std::uint64_t wrong_ = 0;
  std::vector<float> delays_;
};

class GrpcClients final : public LoadClients {
 public:
  explicit GrpcClients(const Options& options) {
    for (std::size_t i = 0; i < kConnections; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt("yangtuo.connection", static_cast<int>(i));  // else gRPC would share one
      stubs_.push_back(v1::GenerationService::NewStub(grpc::CreateCustomChannel(
          options.gateway, grpc::InsecureChannelCredentials(), arguments)));
    }
    const std::size_t count = options.plan->num_streams();
    {
      const MutexLock lock(shared_.mutex);
      shared_.open = count;
    }
    for (std::size_t i = 0; i < count; ++i) {
      streams_.push_back(std::make_unique<ClientStream>(options, i, shared_));
      streams_.back()->Begin(*stubs_[i % kConnections]);
    }
  }
  ~GrpcClients() override { WaitOrCancel(Duration{}); }

  [[nodiscard]] std::size_t ended() const override {
    const MutexLock lock(shared_.mutex);
    return streams_.size() - shared_.open;
  }
  [[nodiscard]] std::uint64_t tokens_received() const override { return shared_.tokens; }

  LoadReport Finish(Duration limit) override {
    WaitOrCancel(limit);
    LoadReport report;
    for (const auto& stream : streams_) {
      stream->AddTo(report);
    }
    return report;
  }

 private:
  void WaitOrCancel(Duration limit) {
    const TimePoint end = std::chrono::steady_clock::now() + limit;
    {
      const MutexLock lock(shared_.mutex);
      while (shared_.open > 0 && std::chrono::steady_clock::now() < end) {
        shared_.ended.WaitUntil(shared_.mutex, end);
      }
      if (shared_.open == 0) {
        return;
      }
    }
    for (const auto& stream : streams_) {
      stream->Cancel();
    }
    const MutexLock lock(shared_.mutex);
    while (shared_.open > 0) {
      shared_.ended.Wait(shared_.mutex);
    }
  }

  mutable Shared shared_;
  std::vector<std::unique_ptr<v1::GenerationService::Stub>> stubs_;
  std::vector<std::unique_ptr<ClientStream>> streams_;
};

}  // namespace

std::unique_ptr<LoadClients> LoadClients::StartGrpc(const Options& options) {
  return std::make_unique<GrpcClients>(options);
}

}  // namespace yangtuo::bench_gateway
