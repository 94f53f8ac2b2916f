#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/metrics.h"

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
  void SetWorkerUp(const std::string& worker, bool up);
  void SetWorkersReady(const std::string& model, std::uint32_t groups);

  Gauge& requests_running() { return requests_running_; }
  Gauge& tokens_admitted() { return tokens_admitted_; }
  Counter& retries(const std::string& peer);

 private:
  Metrics& metrics_;
  Gauge& requests_running_;
  Gauge& tokens_admitted_;
};

// One incoming request from arrival to end: counts it while it runs, then its code, and writes its
// line in the access log. Never prompt text. Used by one thread at a time.
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

  [[nodiscard]] TimePoint arrival() const { return arrival_; }
  [[nodiscard]] const std::string& request_id() const { return request_id_; }

  // Once; later calls do nothing.
  void End(const absl::Status& status);

 private:
  GatewayMetrics& metrics_;
  const std::string method_;
  const std::string request_id_;
  const TimePoint arrival_;
  bool ended_ = false;
};

}  // namespace yangtuo::gateway
