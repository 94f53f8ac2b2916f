#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gateway/access/access_control.h"
#include "gateway/access/audit_log.h"
#include "gateway/admission.h"
#include "gateway/call_scope.h"
#include "gateway/gateway_metrics.h"
#include "gateway/request_validation.h"
#include "gateway/response_sink.h"
#include "gateway/timers.h"
#include "gateway/tokenizer_pool.h"
#include "gateway/worker_pool.h"
#include "inference_core/base/mutex.h"
#include "inference_core/grammar/grammar_cache.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// How hard a lost stream is continued elsewhere.
struct ResumeLimits {
  // Streams of one choice that end one after the other without a new token: a request that kills
  // workers must not go round for ever.
  int max_streams = 5;
  // Waiting for a group that computes the same numbers.
  Duration max_wait = std::chrono::seconds(3);
};

// How long a request may wait for its first token; zero: as long as its deadline lets it.
struct QueueLimits {
  Duration max_wait{};
};

// What flows use; outlives them.
struct FlowServices {
  WorkerPool& workers;
  TokenizerPool& tokenizers;
  Admission& admission;
  Timers& timers;
  Timers& compiling;  // runs what takes longer than a timer or a transport's thread may
  GatewayMetrics& metrics;
  AccessControl& access;
  AuditLog* audit = nullptr;  // null: none
  RequestLimits limits;
  ResumeLimits resume;
  QueueLimits queue = {};
  Tracer& tracer;
  GrammarCache& grammars;
};

// The model that a caller means by `name`, which may be empty when only one is served or allowed.
// The errors of WorkerPool::Resolve, and PERMISSION_DENIED.
absl::StatusOr<ServedModel> ResolveFor(const FlowServices& services, const Caller& caller,
                                       const std::string& name);

// The prompt as a worker needs it.
struct Prompt {
  std::vector<std::uint32_t> ids;
  std::vector<std::string> stop_strings{};  // the chat template's
};

// One Generate request, from validation to its last message, for whatever transport: resolve the
// model, admit, text or chat to ids, then per choice a worker stream whose ids go through an
// incremental decoder and the stop strings into the sink.
//
// Everything is driven by reactions; one lock guards the request's state, decisions are made under
// it and calls outside. Callbacks that are still to come keep the flow alive. A stream whose worker
// is lost continues on another group with the same numerics id, from the ids that were received:
// tokens are a function of prompt, parameters, seed and position, so none is lost or repeated.
class GenerationFlow : public std::enable_shared_from_this<GenerationFlow> {
 public:
  // Begins. `sink` hears End exactly once, possibly before this returns.
  static std::shared_ptr<GenerationFlow> Start(FlowServices& services, v1::GenerateRequest request,
                                               std::shared_ptr<CallScope> scope,
                                               std::unique_ptr<RequestRecord> record,
                                               std::shared_ptr<ResponseSink> sink);
  ~GenerationFlow();
  GenerationFlow(const GenerationFlow&) = delete;
  GenerationFlow& operator=(const GenerationFlow&) = delete;

  // The client left, or its deadline passed. Any thread, any number of times.
  void Cancel();

 private:
  struct Choice;
  class ChoiceEvents;

  GenerationFlow(FlowServices& services, v1::GenerateRequest request,
                 std::shared_ptr<CallScope> scope, std::unique_ptr<RequestRecord> record,
                 std::shared_ptr<ResponseSink> sink);

  // generation_flow.cc: what happens before the first token.
  void Begin();
  absl::Status Prepare() ABSL_LOCKS_EXCLUDED(mutex_);
  void EncodeText();
  void CheckConstraintAndGoOn();
  void RenderChat();
  void OnPrompt(Prompt prompt) ABSL_LOCKS_EXCLUDED(mutex_);
  void LoadPieces();
  void LoadEcho();
  void Launch() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::vector<Choice> MakeChoices() const;
  void WatchDeadline();
  // Ends the request if no token has come by the queue's limit.
  void WatchQueue();
  void OnQueueLimit() ABSL_LOCKS_EXCLUDED(mutex_);
  void Fail(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  // generation_choices.cc: one choice's stream.
  [[nodiscard]] RouteRequest RouteOf(const Choice& choice) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartStream(std::size_t index) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] internal::v1::GenerateRequest WorkerRequest(const Choice& choice) const;
  void OnDelta(std::size_t index, internal::v1::GenerateDelta& delta) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnStreamEnd(std::size_t index, const absl::Status& status,
                   const internal::v1::GenerateFinished* finished) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnText(std::size_t index, std::string_view text, std::uint32_t ids_consumed)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnTextEnd(std::size_t index, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // What to do about a lost stream: an error, or the wait before the next attempt.
  absl::StatusOr<Duration> PlanRetry(Choice& choice, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Duration> PlanRetryOfFull(Choice& choice, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RetryLater(std::size_t index, Duration wait);
  void CountTokens(Choice& choice, std::size_t tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddEcho(Choice& choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Add(v1::Delta delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Flushes, and ends the request when its last choice is done or the sink is full.
  void AfterEvents() ABSL_LOCKS_EXCLUDED(mutex_);
  void AddFinished() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FlowServices& services_;
  const v1::GenerateRequest request_;
  const std::shared_ptr<CallScope> scope_;
  const std::shared_ptr<ResponseSink> sink_;

  // Written before the choices start, by one callback after the other; constant from then on.
  ServedModel model_;
  std::optional<internal::v1::TokenizerInfo> tokenizer_;
  std::optional<GatewayMetrics::OfModel> model_metrics_;
  Prompt prompt_;
  std::uint64_t seed_ = 0;
  std::uint32_t max_new_tokens_ = 0;
  std::shared_ptr<const PieceTable> pieces_;  // set when log-probabilities are asked for
  std::string echo_text_;
  TimePoint launched_at_{};

  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool sink_full_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<RequestRecord> record_ ABSL_GUARDED_BY(mutex_);
  std::optional<AdmissionPermit> permit_ ABSL_GUARDED_BY(mutex_);
  std::size_t choices_open_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Choice> choices_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
