#include "services/common/program.h"
#include "services/inference/worker.h"
#include "services/inference/worker_options.h"

int main(int argc, char** argv) {
  yangtuo::EnsureOmpWaitPolicy(argv);
  yangtuo::WorkerOptions options;
  options.service.listen = "127.0.0.1:50053";
  options.service.admin_listen = "127.0.0.1:9400";
  return yangtuo::RunService(
      {.name = "yangtuo-worker",
       .description = "Holds a model, or some of its layers, and turns token ids into token ids.",
       .environment_prefix = "YANGTUO_WORKER",
       .options = options.service,
       .add_flags = [&](CLI::App& app) { yangtuo::AddWorkerFlags(app, options); },
       .check = [&] { return yangtuo::CheckWorkerOptions(options); },
       .start = [&](yangtuo::Metrics& metrics)
           -> absl::StatusOr<std::unique_ptr<yangtuo::RunningService>> {
         return yangtuo::Worker::Start(options, metrics);
       }},
      argc, argv);
}
