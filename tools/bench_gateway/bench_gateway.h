#pragma once

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/bench_gateway/load_step.h"

namespace yangtuo::bench_gateway {

struct BenchGatewayOptions {
  StepOptions load;
  bool ramp = true;  // also look for the rate at which it saturates
  // Folder of yangtuo-gateway and yangtuo-tokenizer; empty: where this program is.
  std::string programs;
  // A model folder whose tokenizer is used.
  std::string model = "deploy/models/poem-alpaca";
  // Set: use this tokenizer service instead of starting one (its cores are not measured).
  std::string tokenizer;
  bool json = false;
};

// What a whole run found.
struct BenchGatewayReport {
  StepResult asked;               // at the load that was asked for
  std::vector<StepResult> steps;  // of the ramp, in the order they ran
};

// The highest load of the report that was sustained, tokens a second; 0 when none was.
double SaturationRate(const BenchGatewayReport& report);

// Multiplies the rate of each stream until a step is not sustained (or divides until one is).
absl::StatusOr<BenchGatewayReport> RunLoads(const LoadTarget& target,
                                            const BenchGatewayOptions& options);

void PrintTable(const BenchGatewayReport& report, std::ostream& out);
void PrintJson(const BenchGatewayReport& report, std::ostream& out);

// Starts tokenizer, gateway and token producer, runs the loads, prints to `out`. The exit code of
// the program: 0, or 1 when the load that was asked for was not sustained or nothing could run.
int RunBenchGateway(const BenchGatewayOptions& options, std::ostream& out);

}  // namespace yangtuo::bench_gateway
