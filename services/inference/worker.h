#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "services/common/metrics.h"
#include "services/common/program.h"
#include "services/inference/worker_options.h"

namespace yangtuo {

// A whole worker process but for main: one shard of one model, leading its group or serving it.
class Worker final : public RunningService {
 public:
  // Opens the ports, waits for the next shard of the chain, loads, and begins to serve. Blocks for
  // as long as that takes; /livez answers meanwhile and /readyz says not ready. Errors: whatever is
  // wrong with model, flags or ports.
  static absl::StatusOr<std::unique_ptr<Worker>> Start(const WorkerOptions& options,
                                                       Metrics& metrics);
  ~Worker() override;

  [[nodiscard]] int port() const;
  // 0 when this worker leads.
  [[nodiscard]] int shard_port() const;
  [[nodiscard]] bool ready() const;

  void Drain(Duration limit) override;

 private:
  struct Parts;
  explicit Worker(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace yangtuo
