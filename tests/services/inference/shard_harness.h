#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server_builder.h"
#include "services/inference/remote_stage.h"
#include "services/inference/shard_host.h"
#include "services/inference/shard_service.h"
#include "tests/testing/fake_stage.h"

namespace yangtuo::testing {

// Impatient where it can be without taking a busy machine for a dead one.
inline ShardTiming QuickTiming() {
  return {.attempt_limit = std::chrono::milliseconds(2000),
          .heartbeat = std::chrono::milliseconds(100),
          .silence_limit = std::chrono::milliseconds(2500),
          .step_limit = std::chrono::milliseconds(1200)};
}

inline FakeStage::Options FakeOptions() { return {.kv_blocks = 64, .depth = 8}; }

// What a shard of a test's chain of `shards` shards (one layer each) is.
inline StageInfo ShardInfo(std::int32_t index, std::int32_t shards) {
  StageInfo info = FakeStage(FakeOptions()).info();
  info.model_digest = "digest";
  info.numerics = "fake/v1";
  info.weight_type = "f32";
  info.first_layer = index;
  info.num_layers = shards;
  info.depth = shards - index;
  return info;
}

// A stage that behaves like `inner` and calls itself `info`; `before_submit` may sleep or fail.
class NamedStage final : public Stage {
 public:
  NamedStage(StageInfo info, std::unique_ptr<Stage> inner)
      : info_(std::move(info)), inner_(std::move(inner)) {}

  [[nodiscard]] const StageInfo& info() const override { return info_; }
  absl::Status Submit(Step step) override {
    if (before_submit) {
      if (absl::Status status = before_submit(step); !status.ok()) {
        return status;
      }
    }
    return inner_->Submit(std::move(step));
  }
  absl::StatusOr<StepResult> Next() override { return inner_->Next(); }
  absl::Status Reset() override { return inner_->Reset(); }

  std::function<absl::Status(const Step&)> before_submit;

 private:
  StageInfo info_;
  std::unique_ptr<Stage> inner_;
};

// How to reach a shard at `port` from the shard before `index`.
inline ShardPeer PeerAt(int port, std::int32_t index, std::int32_t shards, Ticker& ticker) {
  ShardPeer peer;
  peer.address = absl::StrFormat("127.0.0.1:%d", port);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  peer.channel =
      grpc::CreateCustomChannel(peer.address, grpc::InsecureChannelCredentials(), arguments);
  peer.expected = ShardInfo(index, shards);
  peer.expected.kv_blocks = 0;
  peer.own_rank = index - 1;
  peer.timing = QuickTiming();
  peer.ticker = &ticker;
  return peer;
}

// One shard process in miniature: its stage, its compute thread, its server.
class ShardServer {
 public:
  // `next` is null at the end of the chain; the fake model runs there.
  ShardServer(StageInfo info, Ticker& ticker, std::unique_ptr<RelayStage> next, int port = 0)
      : service_(host_, ticker, QuickTiming()) {
    RelayStage* const relay = next.get();
    const std::int32_t last_layer = relay == nullptr ? info.num_layers : info.first_layer + 1;
    std::unique_ptr<Stage> inner = std::move(next);
    if (inner == nullptr) {
      inner = std::make_unique<FakeStage>(FakeOptions());
    }
    auto stage = std::make_unique<NamedStage>(std::move(info), std::move(inner));
    stage_ = stage.get();
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(absl::StrFormat("127.0.0.1:%d", port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    host_.Serve(std::move(stage), {.last_layer = last_layer, .relay = relay});
  }

  // As a killed process: streams break, nothing is said.
  ~ShardServer() { server_->Shutdown(std::chrono::system_clock::now()); }

  [[nodiscard]] int port() const { return port_; }
  // Before the first step only.
  [[nodiscard]] NamedStage& stage() { return *stage_; }
  [[nodiscard]] ShardHost& host() { return host_; }

 private:
  ShardHost host_;
  ShardService service_;
  NamedStage* stage_ = nullptr;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace yangtuo::testing
