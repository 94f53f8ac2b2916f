#include <ostream>
#include <thread>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/bench_gateway/bench_gateway.h"

namespace yangtuo::bench_gateway {
namespace {

double PerCore(const StepResult& step) {
  const double cores = step.gateway_cores + step.tokenizer_cores;
  return cores > 0 ? step.delivered_per_second / cores : 0;
}

void PrintRow(const StepResult& step, std::ostream& out) {
  out << absl::StrFormat("%8d %8.1f %10.0f %10.0f %8.2f %9.2f %10.0f %8.2f %8.2f %8.1f %6d  %s\n",
                         step.options.streams, step.options.tokens_per_second,
                         step.produced_per_second, step.delivered_per_second, step.gateway_cores,
                         step.tokenizer_cores, PerCore(step), step.delay_p50 * 1e3,
                         step.delay_p99 * 1e3, step.delay_max * 1e3, step.tokens_wrong,
                         step.sustained() ? "sustained" : "NOT sustained");
  if (!step.first_error.empty()) {
    out << absl::StrFormat("  %d streams failed, first: %s\n", step.streams_failed,
                           step.first_error);
  }
}

nlohmann::json ToJson(const StepResult& step) {
  return {{"streams", step.options.streams},
          {"tokens_per_second_per_stream", step.options.tokens_per_second},
          {"measured_seconds", step.options.measured_seconds},
          {"produced_tokens_per_second", step.produced_per_second},
          {"delivered_tokens_per_second", step.delivered_per_second},
          {"gateway_cores", step.gateway_cores},
          {"tokenizer_cores", step.tokenizer_cores},
          {"tokens_per_second_per_core", PerCore(step)},
          {"transport", step.options.http ? "sse" : "grpc"},
          {"bad_clients", step.options.bad_clients},
          {"gateway_bytes_per_stream", step.gateway_bytes_per_stream},
          {"tokenizer_bytes_per_stream", step.tokenizer_bytes_per_stream},
          {"delay_p50_seconds", step.delay_p50},
          {"delay_p99_seconds", step.delay_p99},
          {"delay_max_seconds", step.delay_max},
          {"tokens_wrong", step.tokens_wrong},
          {"streams_failed", step.streams_failed},
          {"sustained", step.sustained()}};
}

}  // namespace

void PrintTable(const BenchGatewayReport& report, std::ostream& out) {
  out << absl::StrFormat(
      "Gateway and tokenizer between a token producer and clients, all on this machine (%d "
      "processors).\n\n",
      std::thread::hardware_concurrency());
  out << absl::StrFormat("%8s %8s %10s %10s %8s %9s %10s %8s %8s %8s %6s\n", "streams", "rate",
                         "produced", "delivered", "gateway", "tokenizer", "per core", "p50", "p99",
                         "max", "wrong");
  out << absl::StrFormat("%8s %8s %10s %10s %8s %9s %10s %8s %8s %8s %6s\n", "", "tok/s", "tok/s",
                         "tok/s", "cores", "cores", "tok/s", "ms", "ms", "ms", "tokens");
  PrintRow(report.asked, out);
  for (const StepResult& step : report.steps) {
    PrintRow(step, out);
  }
  out << absl::StrFormat(
      "\nMemory of a stream (%s) beyond the idle process: gateway %.1f kB, tokenizer %.1f kB.\n",
      report.asked.options.http ? "SSE" : "gRPC", report.asked.gateway_bytes_per_stream / 1e3,
      report.asked.tokenizer_bytes_per_stream / 1e3);
  out << absl::StrFormat(
      "Highest sustained load: %.0f tokens/s. Delays are from producer to client.\n",
      SaturationRate(report));
}

void PrintJson(const BenchGatewayReport& report, std::ostream& out) {
  nlohmann::json json{{"asked", ToJson(report.asked)},
                      {"steps", nlohmann::json::array()},
                      {"highest_sustained_tokens_per_second", SaturationRate(report)},
                      {"processors", std::thread::hardware_concurrency()}};
  for (const StepResult& step : report.steps) {
    json["steps"].push_back(ToJson(step));
  }
  out << json.dump(2) << "\n";
}

}  // namespace yangtuo::bench_gateway
