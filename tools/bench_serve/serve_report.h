#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench_serve/load_run.h"

namespace yangtuo::bench_serve {

// What a user would still call fast.
struct Targets {
  double ttft_ms = 2000;
  double tpot_ms = 200;
};

// Of one latency, in milliseconds; zeros when there is none.
struct Spread {
  double mean = 0;
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
};

// Nearest rank: the smallest value that so many percent do not exceed.
Spread SpreadOf(std::vector<double> milliseconds);

// What came of one rate. Per second: over the whole run, from its beginning to its last answer.
struct RateReport {
  std::optional<double> offered{};             // requests a second; nothing: unlimited
  std::size_t done = 0;                        // with every token
  std::size_t refused = 0;                     // RESOURCE_EXHAUSTED, UNAVAILABLE
  std::size_t failed = 0;                      // any other error
  std::size_t unfinished = 0;                  // when the run was stopped
  std::map<std::string, std::size_t> codes{};  // of refused and failed
  std::string first_error{};
  std::string stopped{};  // why the run ended early; empty: it did not
  double seconds = 0;
  double requests_per_second = 0;  // done
  double input_tokens_per_second = 0;
  double output_tokens_per_second = 0;
  double goodput_per_second = 0;  // done within both targets
  double cached_share = 0;        // of the done requests' prompt tokens
  Spread ttft{};                  // due to first token
  Spread tpot{};                  // first to last token, by the tokens after the first
  Spread itl{};                   // between messages with tokens
  Spread e2e{};                   // due to last message
  Spread lateness{};              // due to sent: of this program, not of the cluster
};

RateReport Summarize(const RunResult& result, std::optional<double> offered,
                     const Targets& targets);

std::string FormatReports(const std::vector<RateReport>& reports, const Targets& targets);
std::string ReportsJson(const std::vector<RateReport>& reports, const RunOptions& options,
                        const Targets& targets);
std::string ReportsSvg(const std::vector<RateReport>& reports, const Targets& targets);

}  // namespace yangtuo::bench_serve
