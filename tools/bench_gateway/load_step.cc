#include "tools/bench_gateway/load_step.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/channel.h"
#include "tools/bench_gateway/load_clients.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo::bench_gateway {
namespace {

constexpr auto kOpenLimit = std::chrono::seconds(60);
// Beyond the planned time, before streams count as stuck.
constexpr double kLateSeconds = 15;
constexpr double kDeliveredShare = 0.98;
constexpr double kDelayLimitSeconds = 1;

void SleepSeconds(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

double Read(const std::function<double()>& gauge) { return gauge ? gauge() : 0; }

double Quantile(std::vector<float>& values, double quantile) {
  if (values.empty()) {
    return 0;
  }
  const auto rank = static_cast<std::ptrdiff_t>(static_cast<double>(values.size() - 1) * quantile);
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return static_cast<double>(values[static_cast<std::size_t>(rank)]);
}

}  // namespace

bool StepResult::sustained() const {
  return streams_failed == 0 && tokens_wrong == 0 && delay_p99 < kDelayLimitSeconds &&
         delivered_per_second >=
             kDeliveredShare * options.tokens_per_second * static_cast<double>(options.streams);
}

absl::Status WaitForModel(const LoadTarget& target) {
  YANGTUO_ASSIGN_OR_RETURN(const auto channel, CreateChannel(target.gateway, {}));
  const auto stub = v1::GenerationService::NewStub(channel);
  const TimePoint give_up = std::chrono::steady_clock::now() + kOpenLimit;
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    v1::TokenizeRequest request;
    request.set_model(target.model);
    request.set_text("x");
    v1::TokenizeResponse response;
    const grpc::Status status = stub->Tokenize(&context, request, &response);
    if (status.ok()) {
      return absl::OkStatus();
    }
    if (std::chrono::steady_clock::now() > give_up) {
      return absl::UnavailableError(absl::StrFormat("the gateway at %s does not get ready: %s",
                                                    target.gateway, status.error_message()));
    }
    SleepSeconds(0.05);
  }
}

absl::StatusOr<StepResult> RunStep(const LoadTarget& target, const StepOptions& options) {
  const double seconds = options.warmup_seconds + options.measured_seconds + 1;
  const auto tokens = static_cast<std::size_t>(seconds * options.tokens_per_second) + 1;
  const std::size_t streams = options.streams + (options.http ? options.bad_clients : 0);
  const auto plan = std::make_shared<TokenPlan>(target.ids, streams, tokens);
  target.producer->SetPlan(plan, options.tokens_per_second);
  const auto first_measured =
      static_cast<std::size_t>(options.warmup_seconds * options.tokens_per_second);
  LoadClients::Options load{.gateway = options.http ? target.http : target.gateway,
                            .model = target.model,
                            .plan = plan,
                            .first_measured = first_measured};
  if (options.http) {
    load.texts = target.texts;
    load.bad_clients = options.bad_clients;
  }
  const auto clients = options.http ? LoadClients::StartSse(load) : LoadClients::StartGrpc(load);
  const TimePoint give_up = std::chrono::steady_clock::now() + kOpenLimit;
  while (target.producer->streams_begun() + clients->ended() < streams) {
    if (std::chrono::steady_clock::now() > give_up) {
      return absl::UnavailableError(absl::StrFormat(
          "only %d of %d streams began within %d s: %s", target.producer->streams_begun(), streams,
          std::chrono::seconds(kOpenLimit).count(), clients->Finish(Duration{}).first_error));
    }
    SleepSeconds(0.01);
  }
  target.producer->Release();
  SleepSeconds(options.warmup_seconds);
  const std::int64_t begin = NowNanoseconds();
  const double gateway_cpu = Read(target.gateway_cpu);
  const double tokenizer_cpu = Read(target.tokenizer_cpu);
  const std::uint64_t received = clients->tokens_received();
  SleepSeconds(options.measured_seconds);
  const double wall = static_cast<double>(NowNanoseconds() - begin) * 1e-9;
  StepResult result{.options = options};
  result.delivered_per_second = static_cast<double>(clients->tokens_received() - received) / wall;
  result.gateway_cores = (Read(target.gateway_cpu) - gateway_cpu) / wall;
  result.tokenizer_cores = (Read(target.tokenizer_cpu) - tokenizer_cpu) / wall;
  const auto all = static_cast<double>(streams);
  result.gateway_bytes_per_stream = Read(target.gateway_bytes) / all;
  result.tokenizer_bytes_per_stream = Read(target.tokenizer_bytes) / all;
  LoadReport report = clients->Finish(
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1 + kLateSeconds)));
  std::uint64_t produced = 0;
  for (std::size_t stream = 0; stream < options.streams; ++stream) {
    for (std::size_t i = 0; i < tokens; ++i) {
      const std::int64_t at = plan->SentAt(stream, i);
      produced += at >= begin && static_cast<double>(at - begin) * 1e-9 < wall ? 1U : 0U;
    }
  }
  result.produced_per_second = static_cast<double>(produced) / wall;
  result.delay_p50 = Quantile(report.delays, 0.5);
  result.delay_p99 = Quantile(report.delays, 0.99);
  result.delay_max = Quantile(report.delays, 1);
  result.tokens_wrong = report.tokens_wrong;
  result.streams_failed = report.streams_failed;
  result.first_error = report.first_error;
  return result;
}

}  // namespace yangtuo::bench_gateway
