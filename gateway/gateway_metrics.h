#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gateway/access/audit_log.h"
#include "gateway/access/audit_text.h"
#include "gateway/access/caller.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/metrics.h"
#include "services/common/tracer.h"

namespace yangtuo::gateway {

// What the gateway counts. Thread-safe.
class GatewayMetrics {
 public:
  // Of one model; the references live as long as the Metrics.
  struct OfModel {
    Histogram& ttft_seconds;
    Histogram& inter_token_seconds;
    Histogram& e2e_seconds;
    Counter& prompt_tokens;
    Counter& generation_tokens;
  };

  explicit GatewayMetrics(Metrics& metrics);

  OfModel ForModel(const std::string& model);
  void CountRequest(const std::string& method, const std::string& code);
  void CountRejected(const std::string& reason);
  // The workers that discovery knows, by address. One that left is exposed no longer: else its last
  // value would look like a worker for ever. One thread.
  void SetWorkersUp(const std::map<std::string, bool>& workers);
  // The same for tokenizer replicas.
  void SetTokenizersUp(const std::map<std::string, bool>& tokenizers);
  // The same for workers that break their streams and get none for a while.
  void SetWorkersEjected(const std::map<std::string, bool>& workers);
  // Ready groups by model. A model whose last worker left keeps 0: it is missed. One thread.
  void SetWorkersReady(const std::map<std::string, std::uint32_t>& models);

  Gauge& requests_running() { return requests_running_; }
  Gauge& tokens_admitted() { return tokens_admitted_; }
  Counter& retries(const std::string& peer);
  // Streams sent to a group because of its cache ("prefix") or of its load ("load").
  Counter& routed(const std::string& by);

 private:
  // Sets a gauge of each peer and removes those of peers in `exposed` that are gone.
  void SetOfPeers(const char* label, const char* name, const char* help,
                  const std::map<std::string, bool>& peers, std::set<std::string>& exposed);

  Metrics& metrics_;
  std::set<std::string> up_of_;  // the workers whose gauge is exposed
  std::set<std::string> tokenizer_up_of_;
  std::set<std::string> ejected_of_;
  std::set<std::string> models_;  // seen so far
  Gauge& requests_running_;
  Gauge& tokens_admitted_;
};

// One incoming request from arrival to end: counts it while it runs, then its code, charges its
// tokens to who asked, and writes the end of its span and its line in the access log (never prompt
// text) and in the audit log. Used by one thread at a time.
class RequestRecord {
 public:
  RequestRecord(GatewayMetrics& metrics, std::string method, std::string request_id);
  // A request that nobody ended is INTERNAL.
  ~RequestRecord();
  RequestRecord(const RequestRecord&) = delete;
  RequestRecord& operator=(const RequestRecord&) = delete;

  std::string model;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::optional<Duration> time_to_first_token;

  // For the audit log, where there is one.
  AuditLog* audit = nullptr;
  std::string endpoint;
  std::optional<std::string> prompt;
  std::shared_ptr<const Caller> caller;  // null: nobody that we know
  // These end with the request.
  std::shared_ptr<Visit> visit;
  Span span = {};  // of its scope, when it has one

  [[nodiscard]] TimePoint arrival() const { return arrival_; }
  [[nodiscard]] const std::string& request_id() const { return request_id_; }

  // Keeps what was asked for the audit log, where that wants it.
  template <typename Request>
  void NotePrompt(const Request& request) {
    if (audit != nullptr && audit->wants_prompts()) {
      prompt = PromptText(request);
    }
  }
  // Charges the prompt at once, so that the next request of the same key sees it.
  void SetPromptTokens(std::uint64_t tokens);

  // Once; later calls do nothing.
  void End(const absl::Status& status);

 private:
  void Charge(std::uint64_t tokens);
  void WriteAudit(const absl::Status& status, Duration total) const;
  void EndSpan(const absl::Status& status) const;

  GatewayMetrics& metrics_;
  const std::string method_;
  const std::string request_id_;
  const TimePoint arrival_;
  std::uint64_t charged_tokens_ = 0;
  bool ended_ = false;
};

}  // namespace yangtuo::gateway
