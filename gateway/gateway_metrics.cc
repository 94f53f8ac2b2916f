#include "gateway/gateway_metrics.h"

#include <utility>

#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
GatewayMetrics::GatewayMetrics(Metrics& metrics)
    : metrics_(metrics),
      requests_running_(metrics.AddGauge("yangtuo_requests_running", "Requests in progress")),
      tokens_admitted_(metrics.AddGauge("yangtuo_tokens_admitted",
                                        "Prompt and longest answer of all admitted requests")) {
  retries("worker");
  retries("tokenizer");
  for (const char* by : {"prefix", "load"}) {
    routed(by);
  }
}

GatewayMetrics::OfModel GatewayMetrics::ForModel(const std::string& model) {
  const Labels labels{{"model", model}};
  return {
      .ttft_seconds =
          metrics_.AddHistogram("yangtuo_ttft_seconds", "Arrival of a request to its first token",
                                TimeToFirstTokenBuckets(), labels),
      .inter_token_seconds =
          metrics_.AddHistogram("yangtuo_inter_token_seconds", "Gap between two tokens of a choice",
                                InterTokenBuckets(), labels),
      .e2e_seconds =
          metrics_.AddHistogram("yangtuo_e2e_seconds", "Arrival of a Generate request to its end",
                                RequestSecondsBuckets(), labels),
      .prompt_tokens =
          metrics_.AddCounter("yangtuo_prompt_tokens_total", "Tokens of accepted prompts", labels),
      .generation_tokens = metrics_.AddCounter("yangtuo_generation_tokens_total",
                                               "Tokens received from workers", labels),
  };
}

void GatewayMetrics::CountRequest(const std::string& method, const std::string& code) {
  metrics_
      .AddCounter("yangtuo_requests_total", "Requests by method and gRPC code",
                  {{"method", method}, {"code", code}})
      .Add();
}

void GatewayMetrics::CountRejected(const std::string& reason) {
  metrics_
      .AddCounter("yangtuo_rejected_total", "Requests refused for lack of capacity",
                  {{"reason", reason}})
      .Add();
}

Counter& GatewayMetrics::routed(const std::string& by) {
  return metrics_.AddCounter("yangtuo_routed_total",
                             "Streams sent to a group for its prefix cache or for its load",
                             {{"by", by}});
}

void GatewayMetrics::SetWorkersUp(const std::map<std::string, bool>& workers) {
  SetOfPeers("worker", "yangtuo_worker_up", "1 when a worker's leader reports", workers, up_of_);
}

void GatewayMetrics::SetTokenizersUp(const std::map<std::string, bool>& tokenizers) {
  SetOfPeers("tokenizer", "yangtuo_tokenizer_up", "1 when a tokenizer answers", tokenizers,
             tokenizer_up_of_);
}

void GatewayMetrics::SetWorkersEjected(const std::map<std::string, bool>& workers) {
  SetOfPeers("worker", "yangtuo_worker_ejected",
             "1 while a worker that fails its streams gets none", workers, ejected_of_);
}

void GatewayMetrics::SetOfPeers(const char* label, const char* name, const char* help,
                                const std::map<std::string, bool>& peers,
                                std::set<std::string>& exposed) {
  for (const std::string& peer : exposed) {
    if (!peers.contains(peer)) {
      metrics_.RemoveGauge(name, {{label, peer}});
    }
  }
  exposed.clear();
  for (const auto& [peer, value] : peers) {
    metrics_.AddGauge(name, help, {{label, peer}}).Set(value ? 1 : 0);
    exposed.insert(peer);
  }
}

void GatewayMetrics::SetWorkersReady(const std::map<std::string, std::uint32_t>& models) {
  for (const auto& [model, groups] : models) {
    models_.insert(model);
  }
  for (const std::string& model : models_) {
    const auto groups = models.find(model);
    metrics_
        .AddGauge("yangtuo_workers_ready", "Worker groups that take requests", {{"model", model}})
        .Set(groups == models.end() ? 0 : groups->second);
  }
}

Counter& GatewayMetrics::retries(const std::string& peer) {
  return metrics_.AddCounter("yangtuo_retries_total",
                             "Calls and streams that were begun again elsewhere", {{"peer", peer}});
}

RequestRecord::RequestRecord(GatewayMetrics& metrics, std::string method, std::string request_id)
    : metrics_(metrics),
      method_(std::move(method)),
      request_id_(std::move(request_id)),
      arrival_(std::chrono::steady_clock::now()) {
  metrics_.requests_running().Add(1);
}

RequestRecord::~RequestRecord() {
  End(absl::InternalError("the request was dropped without an answer"));
}

void RequestRecord::SetPromptTokens(std::uint64_t tokens) {
  prompt_tokens = tokens;
  Charge(tokens);
}

void RequestRecord::Charge(std::uint64_t tokens) {
  if (visit != nullptr && tokens > charged_tokens_) {
    visit->ChargeTokens(tokens - charged_tokens_, std::chrono::steady_clock::now());
    charged_tokens_ = tokens;
  }
}

void RequestRecord::WriteAudit(const absl::Status& status, Duration total) const {
  audit->Write({.request_id = request_id_,
                .tenant = caller == nullptr ? "" : caller->tenant,
                .key_id = caller == nullptr ? "" : caller->key_id,
                .endpoint = endpoint.empty() ? method_ : endpoint,
                .model = model,
                .status = absl::StatusCodeToString(status.code()),
                .reason = status.ok() ? "" : ReasonOf(status),
                .prompt_tokens = prompt_tokens,
                .completion_tokens = completion_tokens,
                .time_to_first_token = time_to_first_token,
                .total = total,
                .prompt = prompt});
}

void RequestRecord::End(const absl::Status& status) {
  if (std::exchange(ended_, true)) {
    return;
  }
  metrics_.requests_running().Add(-1);
  const std::string code = absl::StatusCodeToString(status.code());
  metrics_.CountRequest(method_, code);
  const std::string reason = ReasonOf(status);
  if (status.code() == absl::StatusCode::kResourceExhausted || reason == "DEADLINE_TOO_SOON") {
    metrics_.CountRejected(reason.empty() ? "WORKER_FULL" : reason);
  }
  EndSpan(status);
  const Duration total = std::chrono::steady_clock::now() - arrival_;
  Charge(prompt_tokens + completion_tokens);
  visit.reset();
  if (audit != nullptr) {
    WriteAudit(status, total);
  }
  Log(status.code() == absl::StatusCode::kInternal ? LogLevel::kError : LogLevel::kInfo, "request",
      {{"method", method_},
       {"request_id", request_id_},
       {"code", code},
       {"tenant", caller == nullptr ? std::string() : caller->tenant},
       {"model", model},
       {"prompt_tokens", static_cast<std::int64_t>(prompt_tokens)},
       {"completion_tokens", static_cast<std::int64_t>(completion_tokens)},
       {"ttft_seconds", time_to_first_token.has_value() ? ToSeconds(*time_to_first_token) : 0.0},
       {"total_seconds", ToSeconds(total)},
       {"error", reason}});
}

void RequestRecord::EndSpan(const absl::Status& status) const {
  if (!span.recording()) {
    return;
  }
  if (prompt_tokens > 0) {
    span.Set("gen_ai.usage.input_tokens", static_cast<std::int64_t>(prompt_tokens));
  }
  if (time_to_first_token.has_value()) {
    span.Set("gen_ai.usage.output_tokens", static_cast<std::int64_t>(completion_tokens));
    span.Set("gen_ai.response.time_to_first_chunk", ToSeconds(*time_to_first_token));
  }
  span.End(status);
}

}  // namespace yangtuo::gateway
