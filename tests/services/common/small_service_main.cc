// The smallest service: what the tests of RunService start as a process of its own.

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "services/common/program.h"
#include "services/common/rpc_server.h"
#include "tests/services/common/held_calls.h"

namespace yangtuo {
namespace {

class SmallService final : public RunningService {
 public:
  static absl::StatusOr<std::unique_ptr<RunningService>> Start(const ServiceOptions& options,
                                                               Metrics& metrics) {
    auto service = std::make_unique<SmallService>();
    auto server = RpcServer::Start(options, {&service->calls_}, {"small"}, metrics);
    if (!server.ok()) {
      return server.status();
    }
    service->server_ = *std::move(server);
    service->server_->SetServing("small", true);
    return service;
  }
  void Drain(Duration limit) override { server_->Drain(limit); }

 private:
  HeldCalls calls_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace
}  // namespace yangtuo

int main(int argc, char** argv) {
  yangtuo::EnsureOmpWaitPolicy(argv);
  yangtuo::ServiceOptions options;
  bool slow_start = false;
  return yangtuo::RunService({.name = "small-service",
                              .description = "A service for tests.",
                              .environment_prefix = "SMALL",
                              .options = options,
                              .add_flags =
                                  [&slow_start](CLI::App& app) {
                                    app.add_flag("--slow-start", slow_start, "Never starts");
                                  },
                              .check = nullptr,
                              .start =
                                  [&options, &slow_start](yangtuo::Metrics& metrics) {
                                    while (slow_start) {
                                      std::this_thread::sleep_for(std::chrono::hours(1));
                                    }
                                    return yangtuo::SmallService::Start(options, metrics);
                                  }},
                             argc, argv);
}
