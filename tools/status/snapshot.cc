#include "tools/status/snapshot.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "tools/common/error_text.h"
#include "tools/common/http_get.h"
#include "tools/common/prometheus_text.h"
#include "tools/common/table.h"
#include "tools/models/models.h"

namespace yangtuo {
namespace {

constexpr std::chrono::seconds kScrapeLimit{2};

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string NumberOrDash(const std::optional<double>& value, const char* unit = "") {
  return value ? absl::StrFormat("%.0f%s", *value, unit) : "-";
}

std::string TokensPerSecond(const ServiceLoad& before, const ServiceLoad& now) {
  if (!before.generated_tokens || !now.generated_tokens || now.at <= before.at) {
    return "-";
  }
  // A restarted process counts from zero again.
  const double tokens = std::max(0.0, *now.generated_tokens - *before.generated_tokens);
  return absl::StrFormat("%.1f", tokens / ToSeconds(now.at - before.at));
}

std::string StateOf(const ServiceLoad& load) {
  if (load.ready) {
    return "ready";
  }
  return load.answers ? "not ready" : "no answer";
}

std::string GatewayLine(const Snapshot& snapshot) {
  if (!snapshot.serving.ok()) {
    return DescribeError(snapshot.serving.status(), snapshot.server);
  }
  return absl::StrFormat("gateway %s: %s", snapshot.server,
                         *snapshot.serving ? "serving" : "not serving");
}

}  // namespace

ServiceLoad ParseServiceLoad(int ready_code, const std::string& ready_body,
                             const std::string& metrics) {
  const std::vector<MetricSample> samples = ParsePrometheusText(metrics);
  std::optional<double> usage = SumOf(samples, "yangtuo_kv_cache_usage_ratio");
  if (usage) {
    usage = *usage * 100;
  }
  return {.answers = true,
          .ready = ready_code == 200,
          .problem = ready_code == 200 ? "" : FirstLine(ready_body),
          .running = SumOf(samples, "yangtuo_requests_running"),
          .waiting = SumOf(samples, "yangtuo_requests_waiting"),
          .kv_usage_percent = usage,
          .generated_tokens = SumOf(samples, "yangtuo_generation_tokens_total"),
          .at = std::chrono::steady_clock::now()};
}

ServiceLoad ReadServiceLoad(const std::string& admin_address) {
  const absl::StatusOr<HttpAnswer> ready = HttpGet(admin_address, "/readyz", kScrapeLimit);
  if (!ready.ok()) {
    ServiceLoad load;
    load.problem = std::string(ready.status().message());
    load.at = std::chrono::steady_clock::now();
    return load;
  }
  const absl::StatusOr<HttpAnswer> metrics = HttpGet(admin_address, "/metrics", kScrapeLimit);
  return ParseServiceLoad(ready->code, ready->body, metrics.ok() ? metrics->body : "");
}

Snapshot TakeSnapshot(Client& client, const std::string& server,
                      const std::vector<ServiceRecord>& services) {
  Snapshot snapshot{.server = server,
                    .serving = client.IsServing(),
                    .models = {},
                    .services = services,
                    .loads = {}};
  if (snapshot.serving.ok()) {
    if (auto models = client.ListModels(); models.ok()) {
      snapshot.models = *std::move(models);
    }
  }
  for (const ServiceRecord& service : services) {
    snapshot.loads.push_back(ReadServiceLoad(service.admin));
  }
  return snapshot;
}

std::string FormatSnapshot(const Snapshot& before, const Snapshot& now, int max_width) {
  std::string text = GatewayLine(now) + "\n";
  if (!now.models.models().empty()) {
    text.append("\n").append(FormatModels(now.models, max_width));
  }
  if (now.services.empty()) {
    return text;
  }
  Table table{.columns = {{"SERVICE"},
                          {"STATE"},
                          {"RUNNING", Align::kRight},
                          {"WAITING", Align::kRight},
                          {"KV USED", Align::kRight},
                          {"TOKENS/S", Align::kRight},
                          {"RESTARTS", Align::kRight},
                          {"ADMIN"}},
              .rows = {}};
  std::string problems;
  for (std::size_t i = 0; i < now.services.size(); ++i) {
    const ServiceRecord& service = now.services[i];
    const ServiceLoad& load = now.loads[i];
    const ServiceLoad earlier = i < before.loads.size() ? before.loads[i] : ServiceLoad{};
    table.rows.push_back(
        {service.name, StateOf(load), NumberOrDash(load.running), NumberOrDash(load.waiting),
         NumberOrDash(load.kv_usage_percent, "%"), TokensPerSecond(earlier, load),
         service.pid > 0 ? absl::StrFormat("%d", service.restarts) : "-", service.admin});
    if (!load.problem.empty()) {
      absl::StrAppendFormat(&problems, "%s: %s\n", service.name, load.problem);
    }
  }
  text.append("\n").append(FormatTable(table, max_width));
  return problems.empty() ? text : text.append("\n").append(problems);
}

}  // namespace yangtuo
