#include "tools/bench_serve/load_run.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/client_callback.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/channel.h"
#include "services/common/status.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo::bench_serve {
namespace {

constexpr auto kLook = std::chrono::milliseconds(100);

Duration Seconds(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

struct Shared {
  const TimePoint begin = std::chrono::steady_clock::now();
  Mutex mutex;
  CondVar ended;
  std::size_t open ABSL_GUARDED_BY(mutex) = 0;

  [[nodiscard]] double Now() const { return ToSeconds(std::chrono::steady_clock::now() - begin); }
};

// One request. Its owner waits until Shared::open says that all are over before it reads records.
class Call final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Call(const RunOptions& options, const PlannedRequest& planned, std::size_t index, Shared& shared)
      : shared_(shared), expected_(planned.answer_tokens) {
    request_.set_model(options.model);
    const auto ids = PromptIds(options.plan, planned, index);
    request_.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
    request_.mutable_sampling()->set_seed(index);
    request_.mutable_stop()->set_max_new_tokens(planned.answer_tokens);
    request_.mutable_stop()->set_ignore_eos(true);
    record_.prompt_tokens = planned.prompt_tokens;
    record_.due = planned.at_seconds;
  }

  void Begin(v1::GenerationService::Stub& stub, const std::string& authorization, double timeout) {
    if (!authorization.empty()) {
      context_.AddMetadata("authorization", authorization);
    }
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::milliseconds>(Seconds(timeout)));
    record_.begun = shared_.Now();
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  // For a request that is due whenever there is room.
  void DueNow() { record_.due = shared_.Now(); }

  void Stop() {
    stopping_ = true;
    context_.TryCancel();
  }

  [[nodiscard]] RequestRecord& record() { return record_; }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      return;
    }
    if (response_.has_delta() && response_.delta().token_ids_size() > 0) {
      const double now = shared_.Now();
      if (record_.answer_tokens == 0) {
        record_.first = now;
      } else {
        record_.gaps.push_back(now - last_);
      }
      last_ = now;
      record_.answer_tokens += static_cast<std::uint32_t>(response_.delta().token_ids_size());
    } else if (response_.has_finished()) {
      record_.cached_tokens = response_.finished().usage().cached_prompt_tokens();
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    record_.end = shared_.Now();
    record_.status = FromGrpc(status);
    record_.stopped = stopping_ && status.error_code() == grpc::StatusCode::CANCELLED;
    if (status.ok() && record_.answer_tokens != expected_) {
      record_.status = absl::DataLossError(
          absl::StrFormat("%d tokens came instead of %d", record_.answer_tokens, expected_));
    }
    const MutexLock lock(shared_.mutex);
    --shared_.open;
    shared_.ended.NotifyAll();
  }

  Shared& shared_;
  const std::uint32_t expected_;
  std::atomic<bool> stopping_ = false;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  RequestRecord record_;
  double last_ = 0;
};

class LoadRun {
 public:
  LoadRun(const RunOptions& options, const std::atomic<bool>& interrupted,
          const std::function<void(const RunProgress&)>& on_progress)
      : options_(options), interrupted_(interrupted), on_progress_(on_progress) {}

  absl::StatusOr<RunResult> Run() {
    YANGTUO_ASSIGN_OR_RETURN(authorization_, ReadAuthorization(options_.client.api_key_file));
    YANGTUO_ASSIGN_OR_RETURN(const auto channel,
                             CreateChannel(options_.client.server, options_.client.tls));
    stub_ = v1::GenerationService::NewStub(channel);
    // Prompts are drawn before the clock starts: drawing thousands of ids takes time.
    const std::vector<PlannedRequest> plan = PlanLoad(options_.plan);
    std::vector<std::unique_ptr<Call>> waiting;
    for (std::size_t i = 0; i < plan.size(); ++i) {
      waiting.push_back(std::make_unique<Call>(options_, plan[i], i, shared_));
    }
    const double offset = shared_.Now();
    RunResult result;
    for (auto& call : waiting) {
      call->record().due += offset;
      result.stopped = options_.plan.rate ? WaitUntilDue(call->record().due) : WaitForRoom();
      if (!result.stopped.ok()) {
        break;
      }
      Send(std::move(call));
    }
    if (result.stopped.ok()) {
      result.stopped = WaitForAll();
    }
    StopAll();
    double last = offset;
    for (const auto& call : calls_) {
      last = std::max(last, call->record().end);
      result.requests.push_back(std::move(call->record()));
    }
    result.seconds = last - offset;
    return result;
  }

 private:
  absl::Status Interrupted() const {
    return interrupted_ ? absl::CancelledError("stopped with Ctrl-C") : absl::OkStatus();
  }

  std::size_t Open() {
    const MutexLock lock(shared_.mutex);
    return shared_.open;
  }

  // Until `until`, or sooner when a request ends.
  void Pause(TimePoint until) {
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= next_progress_) {
      on_progress_({.sent = calls_.size(), .ended = calls_.size() - Open()});
      next_progress_ = now + std::chrono::milliseconds(250);
    }
    const MutexLock lock(shared_.mutex);
    shared_.ended.WaitUntil(shared_.mutex, std::min(until, now + kLook));
  }

  absl::Status WaitUntilDue(double due) {
    while (shared_.Now() < due) {
      YANGTUO_RETURN_IF_ERROR(Interrupted());
      Pause(shared_.begin + Seconds(due));
    }
    if (Open() >= options_.max_outstanding) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "%d requests are under way at once, the limit: the cluster cannot keep up with %g a "
          "second; try a lower --rate, or raise --max-outstanding",
          Open(), *options_.plan.rate));
    }
    return Interrupted();
  }

  absl::Status WaitForRoom() {
    while (Open() >= options_.concurrency) {
      YANGTUO_RETURN_IF_ERROR(Interrupted());
      Pause(std::chrono::steady_clock::now() + kLook);
    }
    return Interrupted();
  }

  // Every call has a deadline of its own, which bounds this.
  absl::Status WaitForAll() {
    while (Open() > 0) {
      YANGTUO_RETURN_IF_ERROR(Interrupted());
      Pause(std::chrono::steady_clock::now() + kLook);
    }
    return absl::OkStatus();
  }

  void Send(std::unique_ptr<Call> call) {
    {
      const MutexLock lock(shared_.mutex);
      ++shared_.open;
    }
    if (!options_.plan.rate) {
      call->DueNow();
    }
    calls_.push_back(std::move(call));
    calls_.back()->Begin(*stub_, authorization_, options_.timeout_seconds);
  }

  void StopAll() {
    if (Open() > 0) {
      for (const auto& call : calls_) {
        call->Stop();
      }
    }
    const MutexLock lock(shared_.mutex);
    while (shared_.open > 0) {
      shared_.ended.WaitUntil(shared_.mutex, std::chrono::steady_clock::now() + kLook);
    }
  }

  const RunOptions& options_;
  const std::atomic<bool>& interrupted_;
  const std::function<void(const RunProgress&)>& on_progress_;
  Shared shared_;
  std::string authorization_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::vector<std::unique_ptr<Call>> calls_;
  TimePoint next_progress_{};
};

}  // namespace

absl::StatusOr<RunResult> RunLoad(const RunOptions& options, const std::atomic<bool>& interrupted,
                                  const std::function<void(const RunProgress&)>& on_progress) {
  return LoadRun(options, interrupted, on_progress).Run();
}

}  // namespace yangtuo::bench_serve
