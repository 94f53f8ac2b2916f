#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "services/common/metrics.h"
#include "services/common/program.h"
#include "services/common/rpc_server.h"
#include "services/common/tracer.h"
#include "services/tokenizer/tokenizer_process_options.h"
#include "services/tokenizer/tokenizer_registry.h"
#include "services/tokenizer/tokenizer_service.h"

namespace yangtuo {

// A whole tokenizer process but for main. Used from one thread.
class TokenizerProcess final : public RunningService {
 public:
  // Loads every tokenizer, then opens the ports. Errors: whatever is wrong with files or ports.
  static absl::StatusOr<std::unique_ptr<TokenizerProcess>> Start(
      const TokenizerProcessOptions& options, Metrics& metrics);

  [[nodiscard]] int port() const { return server_->port(); }
  [[nodiscard]] int admin_port() const { return server_->admin_port(); }

  void Drain(Duration limit) override;

 private:
  TokenizerProcess(TokenizerRegistry registry, std::unique_ptr<Tracer> tracer, Metrics& metrics)
      : registry_(std::move(registry)),
        tracer_(std::move(tracer)),
        service_(registry_, metrics, {}, tracer_.get()) {}

  const TokenizerRegistry registry_;
  const std::unique_ptr<Tracer> tracer_;
  TokenizerService service_;
  std::unique_ptr<RpcServer> server_;  // last: it calls the service until it is gone
};

}  // namespace yangtuo
