#pragma once

#include <functional>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/common/metrics.h"
#include "services/common/service_options.h"

// The main function that all services share. A service's main is then
//
//   int main(int argc, char** argv) {
//     yangtuo::EnsureOmpWaitPolicy(argv);                      // programs that compute only
//     yangtuo::TokenizerOptions options;                       // has a ServiceOptions `service`
//     options.service.listen = "127.0.0.1:50052";
//     return yangtuo::RunService(
//         {.name = "yangtuo-tokenizer",
//          .description = "Text to token ids and back.",
//          .environment_prefix = "YANGTUO_TOKENIZER",
//          .options = options.service,
//          .add_flags = [&](CLI::App& app) { AddTokenizerFlags(app, options); },
//          .check = [&] { return CheckTokenizerOptions(options); },
//          .start = [&](Metrics& metrics) { return TokenizerProcess::Start(options, metrics); }},
//         argc, argv);
//   }
namespace yangtuo {

// A service that runs. RunService owns it, calls both functions from the main thread, and destroys
// it before the Metrics that it was given.
class RunningService {
 public:
  virtual ~RunningService() = default;
  // Called once after SIGTERM or SIGINT: refuses what is new, lets what runs finish within `limit`,
  // cancels the rest (RpcServer::Drain does the gRPC part). Blocks until all ended.
  virtual void Drain(Duration limit) = 0;
};

struct ServiceProgram {
  std::string name;                // "yangtuo-tokenizer"; also the program of log lines
  std::string description;         // one sentence for --help
  std::string environment_prefix;  // "YANGTUO_TOKENIZER"
  // Holds the defaults when RunService is called; the flags of AddServiceFlags fill it.
  ServiceOptions& options;
  // The service's own flags. Runs before the shared ones are added.
  std::function<void(CLI::App&)> add_flags;
  // The service's own checks (--check-config runs them too); CheckServiceOptions runs before.
  std::function<absl::Status()> check;
  // Loads, listens, returns; may take minutes. A termination signal meanwhile ends the process at
  // once: nothing runs that could be lost.
  std::function<absl::StatusOr<std::unique_ptr<RunningService>>(Metrics&)> start;
};

// Parses, configures the log (gRPC's own messages included), starts the service, waits for SIGTERM
// or SIGINT, drains it. Returns the exit code of the process: 0, 1 when it could not start, 2 for
// wrong usage. A second signal during the drain ends the process at once.
int RunService(const ServiceProgram& program, int argc, char** argv);

// Programs that compute call this first in main. Idle OpenMP threads spin by default, which costs
// other threads their cores; libgomp reads OMP_WAIT_POLICY once, before main, so setting it means
// starting the same program again in place. Returns when the variable is set already (by the user,
// or by that second start), and when the second start is impossible.
void EnsureOmpWaitPolicy(char** argv);

}  // namespace yangtuo
