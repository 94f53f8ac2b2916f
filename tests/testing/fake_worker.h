#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "inference_core/base/mutex.h"
#include "tests/testing/fake_server.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo::testing {

// What a fake worker does with every Generate call. May be changed while it runs.
struct FakeWorkerScript {
  // All ids of the answer, those of `resumed_ids` included: they are not sent again.
  std::function<std::vector<std::uint32_t>(const internal::v1::GenerateRequest&)> answer;
  std::chrono::milliseconds interval{0};  // before every token
  std::optional<std::size_t> hold_at;     // waits before this token, until cancelled
  std::optional<std::size_t> fail_at;     // ends before this token with `failure`
  std::optional<std::size_t> fail_after;  // ends when it has sent so many in one call
  grpc::Status failure{grpc::StatusCode::UNAVAILABLE, "fake failure"};
  std::optional<std::uint32_t> stop_token_id;  // ends the answer, reason STOP
  std::uint32_t cached_prompt_tokens = 0;      // told with the first token
  // How an Embed call ends. Empty: well.
  std::function<grpc::Status(const internal::v1::EmbedRequest&)> embed;
};

// The leader of a worker group that answers from a script. One thread a call, for tests only.
class FakeWorker final : public internal::v1::InferenceService::Service {
 public:
  explicit FakeWorker(FakeWorkerScript script);
  ~FakeWorker() override { Kill(); }

  [[nodiscard]] std::string address() const { return server_.address(); }
  void Kill();
  void Restart() { server_.Start(); }

  void SetScript(FakeWorkerScript script) ABSL_LOCKS_EXCLUDED(mutex_);
  // Changes what WatchStatus tells, and tells it at once.
  void SetStatus(const std::function<void(internal::v1::WorkerStatus&)>& change)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // As a process that hangs: reports stop, connections stay.
  void SetSilent(bool silent) ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] std::vector<internal::v1::GenerateRequest> requests() const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls of Generate and Embed in progress.
  [[nodiscard]] int running() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The metadata x-request-id of the last Generate call.
  [[nodiscard]] std::string last_request_id() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Running;

  grpc::Status Generate(grpc::ServerContext* context, const internal::v1::GenerateRequest* request,
                        grpc::ServerWriter<internal::v1::GenerateResponse>* writer) override;
  grpc::Status Embed(grpc::ServerContext* context, const internal::v1::EmbedRequest* request,
                     internal::v1::EmbedResponse* response) override;
  grpc::Status WatchStatus(grpc::ServerContext* context,
                           const internal::v1::WatchStatusRequest* request,
                           grpc::ServerWriter<internal::v1::WatchStatusResponse>* writer) override;

  mutable Mutex mutex_;
  CondVar changed_;
  FakeWorkerScript script_ ABSL_GUARDED_BY(mutex_);
  internal::v1::WorkerStatus status_ ABSL_GUARDED_BY(mutex_);
  bool silent_ ABSL_GUARDED_BY(mutex_) = false;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_request_id_ ABSL_GUARDED_BY(mutex_);
  std::vector<internal::v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  FakeServer server_;
};

}  // namespace yangtuo::testing
