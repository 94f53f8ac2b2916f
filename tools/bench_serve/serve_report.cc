#include "tools/bench_serve/serve_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/str_format.h"
#include "tools/common/error_text.h"
#include "tools/common/svg_plot.h"
#include "tools/common/table.h"

namespace yangtuo::bench_serve {
namespace {

// Beyond this the arrivals are no longer those that were planned.
constexpr double kLatenessWarningMs = 20;

std::string RateName(const RateReport& report) {
  return report.offered ? absl::StrFormat("%g", *report.offered) : "unlimited";
}

nlohmann::json ToJson(const Spread& spread) {
  return {{"mean", spread.mean}, {"p50", spread.p50}, {"p95", spread.p95}, {"p99", spread.p99}};
}

void AddLatency(Table& table, const RateReport& report, const char* name, const Spread& spread) {
  const auto ms = [](double value) { return absl::StrFormat("%.1f", value); };
  table.rows.push_back(
      {RateName(report), name, ms(spread.mean), ms(spread.p50), ms(spread.p95), ms(spread.p99)});
}

}  // namespace

Spread SpreadOf(std::vector<double> milliseconds) {
  if (milliseconds.empty()) {
    return {};
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto count = static_cast<double>(milliseconds.size());
  const auto at = [&](double share) {
    return milliseconds[static_cast<std::size_t>(std::max(1.0, std::ceil(share * count))) - 1];
  };
  const double sum = std::accumulate(milliseconds.begin(), milliseconds.end(), 0.0);
  return {.mean = sum / count, .p50 = at(0.5), .p95 = at(0.95), .p99 = at(0.99)};
}

RateReport Summarize(const RunResult& result, std::optional<double> offered,
                     const Targets& targets) {
  RateReport report{.offered = offered};
  report.seconds = result.seconds;
  report.stopped = std::string(result.stopped.message());
  std::vector<double> ttft;
  std::vector<double> tpot;
  std::vector<double> itl;
  std::vector<double> e2e;
  std::vector<double> lateness;
  double good = 0;
  double input = 0;
  double output = 0;
  double cached = 0;
  for (const RequestRecord& request : result.requests) {
    lateness.push_back((request.begun - request.due) * 1e3);
    if (request.stopped) {
      ++report.unfinished;
      continue;
    }
    if (!request.status.ok()) {
      const bool refused =
          absl::IsResourceExhausted(request.status) || absl::IsUnavailable(request.status);
      ++(refused ? report.refused : report.failed);
      ++report.codes[CodeName(request.status)];
      if (report.first_error.empty()) {
        report.first_error = std::string(request.status.message());
      }
      continue;
    }
    ++report.done;
    const double first = (request.first - request.due) * 1e3;
    ttft.push_back(first);
    e2e.push_back((request.end - request.due) * 1e3);
    const double decoding = std::accumulate(request.gaps.begin(), request.gaps.end(), 0.0) * 1e3;
    double per_token = 0;
    if (request.answer_tokens > 1) {
      per_token = decoding / (request.answer_tokens - 1);
      tpot.push_back(per_token);
    }
    for (const double gap : request.gaps) {
      itl.push_back(gap * 1e3);
    }
    good += first <= targets.ttft_ms && per_token <= targets.tpot_ms ? 1 : 0;
    input += request.prompt_tokens;
    output += request.answer_tokens;
    cached += request.cached_tokens;
  }
  const double seconds = std::max(result.seconds, 1e-9);
  report.requests_per_second = static_cast<double>(report.done) / seconds;
  report.input_tokens_per_second = input / seconds;
  report.output_tokens_per_second = output / seconds;
  report.goodput_per_second = good / seconds;
  report.cached_share = input > 0 ? cached / input : 0;
  report.ttft = SpreadOf(std::move(ttft));
  report.tpot = SpreadOf(std::move(tpot));
  report.itl = SpreadOf(std::move(itl));
  report.e2e = SpreadOf(std::move(e2e));
  report.lateness = SpreadOf(std::move(lateness));
  return report;
}

std::string FormatReports(const std::vector<RateReport>& reports, const Targets& targets) {
  Table counts{.columns = {{"offered/s", Align::kRight},
                           {"done", Align::kRight},
                           {"refused", Align::kRight},
                           {"failed", Align::kRight},
                           {"unfinished", Align::kRight},
                           {"done/s", Align::kRight},
                           {"goodput/s", Align::kRight},
                           {"input tok/s", Align::kRight},
                           {"output tok/s", Align::kRight},
                           {"cached", Align::kRight}},
               .rows = {}};
  Table latencies{.columns = {{"offered/s", Align::kRight},
                              {"milliseconds"},
                              {"mean", Align::kRight},
                              {"p50", Align::kRight},
                              {"p95", Align::kRight},
                              {"p99", Align::kRight}},
                  .rows = {}};
  std::string notes;
  for (const RateReport& report : reports) {
    counts.rows.push_back({RateName(report), absl::StrFormat("%d", report.done),
                           absl::StrFormat("%d", report.refused),
                           absl::StrFormat("%d", report.failed),
                           absl::StrFormat("%d", report.unfinished),
                           absl::StrFormat("%.3f", report.requests_per_second),
                           absl::StrFormat("%.3f", report.goodput_per_second),
                           absl::StrFormat("%.1f", report.input_tokens_per_second),
                           absl::StrFormat("%.1f", report.output_tokens_per_second),
                           absl::StrFormat("%.0f %%", report.cached_share * 100)});
    AddLatency(latencies, report, "time to first token", report.ttft);
    AddLatency(latencies, report, "time per output token", report.tpot);
    AddLatency(latencies, report, "between tokens", report.itl);
    AddLatency(latencies, report, "end to end", report.e2e);
    for (const auto& [code, count] : report.codes) {
      notes += absl::StrFormat("at %s/s: %d times %s\n", RateName(report), count, code);
    }
    if (!report.first_error.empty()) {
      notes +=
          absl::StrFormat("at %s/s, the first error: %s\n", RateName(report), report.first_error);
    }
    if (!report.stopped.empty()) {
      notes += absl::StrFormat("at %s/s, stopped early: %s\n", RateName(report), report.stopped);
    }
    if (report.lateness.p99 > kLatenessWarningMs) {
      notes += absl::StrFormat(
          "at %s/s, requests were sent late (p99 %.0f ms): this machine is too busy to make the "
          "load; latencies count from when they were due\n",
          RateName(report), report.lateness.p99);
    }
  }
  notes += absl::StrFormat(
      "goodput: first token within %g ms of when the request was due, then at most %g ms a token\n",
      targets.ttft_ms, targets.tpot_ms);
  return FormatTable(counts, 0) + "\n" + FormatTable(latencies, 0) + "\n" + notes;
}

std::string ReportsJson(const std::vector<RateReport>& reports, const RunOptions& options,
                        const Targets& targets) {
  nlohmann::json rates = nlohmann::json::array();
  for (const RateReport& report : reports) {
    nlohmann::json offered = "unlimited";
    if (report.offered) {
      offered = *report.offered;
    }
    rates.push_back({{"offered_per_second", offered},
                     {"done", report.done},
                     {"refused", report.refused},
                     {"failed", report.failed},
                     {"unfinished", report.unfinished},
                     {"codes", report.codes},
                     {"first_error", report.first_error},
                     {"stopped", report.stopped},
                     {"seconds", report.seconds},
                     {"requests_per_second", report.requests_per_second},
                     {"goodput_per_second", report.goodput_per_second},
                     {"input_tokens_per_second", report.input_tokens_per_second},
                     {"output_tokens_per_second", report.output_tokens_per_second},
                     {"cached_share", report.cached_share},
                     {"ttft_ms", ToJson(report.ttft)},
                     {"tpot_ms", ToJson(report.tpot)},
                     {"itl_ms", ToJson(report.itl)},
                     {"e2e_ms", ToJson(report.e2e)},
                     {"lateness_ms", ToJson(report.lateness)}});
  }
  const PlanOptions& plan = options.plan;
  const nlohmann::json json = {{"model", options.model},
                               {"requests", plan.requests},
                               {"prompt_tokens", plan.prompt_tokens},
                               {"answer_tokens", plan.answer_tokens},
                               {"spread", plan.spread},
                               {"shared_prefix", plan.shared_prefix},
                               {"seed", plan.seed},
                               {"target_ttft_ms", targets.ttft_ms},
                               {"target_tpot_ms", targets.tpot_ms},
                               {"rates", rates}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string ReportsSvg(const std::vector<RateReport>& reports, const Targets& targets) {
  std::vector<std::string> rates;
  for (const RateReport& report : reports) {
    rates.push_back(RateName(report));
  }
  const std::string x_label = "requests offered a second";
  const auto latency = [&](std::string title, Spread RateReport::*spread) {
    Plot plot{.title = std::move(title),
              .x_label = x_label,
              .y_label = "ms",
              .x = rates,
              .series = {{"p50", {}}, {"p95", {}}, {"p99", {}}}};
    for (const RateReport& report : reports) {
      plot.series[0].values.push_back((report.*spread).p50);
      plot.series[1].values.push_back((report.*spread).p95);
      plot.series[2].values.push_back((report.*spread).p99);
    }
    return plot;
  };
  Plot requests{.title = absl::StrFormat("Requests done, and within %g ms + %g ms a token",
                                         targets.ttft_ms, targets.tpot_ms),
                .x_label = x_label,
                .y_label = "requests a second",
                .x = rates,
                .series = {{"done", {}}, {"goodput", {}}}};
  Plot tokens{.title = "Tokens",
              .x_label = x_label,
              .y_label = "tokens a second",
              .x = rates,
              .series = {{"input", {}}, {"output", {}}}};
  for (const RateReport& report : reports) {
    requests.series[0].values.push_back(report.requests_per_second);
    requests.series[1].values.push_back(report.goodput_per_second);
    tokens.series[0].values.push_back(report.input_tokens_per_second);
    tokens.series[1].values.push_back(report.output_tokens_per_second);
  }
  return DrawSvg({latency("Time to first token", &RateReport::ttft),
                  latency("Time per output token", &RateReport::tpot),
                  latency("Between tokens", &RateReport::itl),
                  latency("End to end", &RateReport::e2e), requests, tokens});
}

}  // namespace yangtuo::bench_serve
