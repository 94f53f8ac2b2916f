#pragma once

#include "services/inference/shard_host.h"
#include "services/inference/shard_stream.h"
#include "services/inference/ticker.h"
#include "yangtuo/internal/v1/shard.grpc.pb.h"

namespace yangtuo {

// Hands every Run stream to the host. `host` and `ticker` outlive the server that this is
// registered with.
class ShardService final : public internal::v1::ShardService::CallbackService {
 public:
  ShardService(ShardHost& host, Ticker& ticker, const ShardTiming& timing)
      : host_(host), ticker_(ticker), timing_(timing) {}

  grpc::ServerBidiReactor<internal::v1::RunRequest, internal::v1::RunResponse>* Run(
      grpc::CallbackServerContext* /*context*/) override {
    return ShardStream::Start(host_, timing_, ticker_);
  }

 private:
  ShardHost& host_;
  Ticker& ticker_;
  const ShardTiming timing_;
};

}  // namespace yangtuo
