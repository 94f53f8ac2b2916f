#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "services/common/metrics.h"
#include "services/common/program.h"
#include "services/inference/worker_options.h"

namespace yangtuo {

// A running worker: the ports, the shard behind them, and, when it holds the first layers, the
// engine that leads its group.
class Worker final : public RunningService {
 public:
  // Opens the ports (so that /livez answers), then loads the model and, for all but the last shard,
  // waits for the next one for as long as it takes. Ready after that. Errors say what is wrong with
  // model, tokenizer, address or neighbour.
  static absl::StatusOr<std::unique_ptr<RunningService>> Start(const WorkerOptions& options,
                                                               Metrics& metrics);
  ~Worker() override;

  void Drain(Duration limit) override;

  struct State;  // the parts, in the order of their lives
  class Door;
  explicit Worker(std::unique_ptr<State> state);

 private:
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo
