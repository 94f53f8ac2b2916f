#include "services/inference/shard_handshake.h"

#include <map>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

absl::Status Mismatch(const char* what, const std::string& caller, const std::string& callee) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrFormat(
          "shards do not fit together: %s is %s at the caller and %s at the called shard", what,
          caller, callee)),
      "SHARD_MISMATCH", {{"what", what}, {"caller", caller}, {"callee", callee}});
}

template <typename T>
absl::Status ExpectEqual(const char* what, const T& caller, const T& callee) {
  if (caller == callee) {
    return absl::OkStatus();
  }
  if constexpr (std::is_same_v<T, std::string>) {
    return Mismatch(what, caller.empty() ? "(none)" : caller, callee.empty() ? "(none)" : callee);
  } else {
    return Mismatch(what, std::to_string(caller), std::to_string(callee));
  }
}

absl::Status ExpectAtMost(const char* what, std::uint32_t caller, std::int32_t callee) {
  if (caller <= static_cast<std::uint32_t>(callee)) {
    return absl::OkStatus();
  }
  return Mismatch(what, std::to_string(caller), absl::StrFormat("only %d", callee));
}

}  // namespace

internal::v1::Hello MakeHello(const StageInfo& expected, std::uint64_t epoch, std::int32_t rank,
                              Duration heartbeat) {
  internal::v1::Hello hello;
  hello.set_protocol_version(kShardProtocolVersion);
  hello.set_model_digest(expected.model_digest);
  hello.set_numerics(expected.numerics);
  hello.set_next_layer(static_cast<std::uint32_t>(expected.first_layer));
  hello.set_num_layers(static_cast<std::uint32_t>(expected.num_layers));
  hello.set_epoch(epoch);
  hello.set_kv_block_size(static_cast<std::uint32_t>(expected.kv_block_size));
  hello.set_kv_blocks(static_cast<std::uint32_t>(expected.kv_blocks));
  hello.set_max_step_tokens(static_cast<std::uint32_t>(expected.max_step_tokens));
  hello.set_pipeline_rank(static_cast<std::uint32_t>(rank));
  hello.set_tensor_rank(0);
  hello.set_tensor_size(1);
  hello.set_heartbeat_ms(static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(heartbeat).count()));
  hello.set_context_tokens(static_cast<std::uint32_t>(expected.context_tokens));
  return hello;
}

absl::Status CheckHello(const internal::v1::Hello& hello, const StageInfo& own) {
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the shard protocol version", hello.protocol_version(),
                                      std::uint32_t{kShardProtocolVersion}));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the model digest", hello.model_digest(), own.model_digest));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the numerics", hello.numerics(), own.numerics));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the number of layers", hello.num_layers(),
                                      static_cast<std::uint32_t>(own.num_layers)));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the first layer of the called shard", hello.next_layer(),
                                      static_cast<std::uint32_t>(own.first_layer)));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the KV block size", hello.kv_block_size(),
                                      static_cast<std::uint32_t>(own.kv_block_size)));
  YANGTUO_RETURN_IF_ERROR(
      ExpectEqual("the number of tensor-parallel peers", hello.tensor_size(), 1U));
  YANGTUO_RETURN_IF_ERROR(
      ExpectAtMost("the number of KV blocks", hello.kv_blocks(), own.kv_blocks));
  YANGTUO_RETURN_IF_ERROR(
      ExpectAtMost("the number of rows of a step", hello.max_step_tokens(), own.max_step_tokens));
  return ExpectAtMost("the context length", hello.context_tokens(), own.context_tokens);
}

absl::Status CheckEpoch(const internal::v1::Hello& hello, std::uint64_t current_epoch) {
  if (hello.epoch() == 0 || hello.epoch() > current_epoch) {
    return absl::OkStatus();
  }
  return WithReason(absl::FailedPreconditionError(absl::StrFormat(
                        "epoch is %d at the caller and %d at the called shard; only a larger one "
                        "forms the group anew",
                        hello.epoch(), current_epoch)),
                    kEpochNotNewer, {{"epoch", std::to_string(current_epoch)}});
}

internal::v1::Welcome MakeWelcome(const StageInfo& own, std::int32_t last_layer,
                                  std::uint64_t epoch) {
  internal::v1::Welcome welcome;
  welcome.set_protocol_version(kShardProtocolVersion);
  welcome.set_first_layer(static_cast<std::uint32_t>(own.first_layer));
  welcome.set_last_layer(static_cast<std::uint32_t>(last_layer));
  welcome.set_kv_blocks(static_cast<std::uint32_t>(own.kv_blocks));
  welcome.set_shards(static_cast<std::uint32_t>(own.depth));
  welcome.set_epoch(epoch);
  welcome.set_constrains(own.constrains);
  return welcome;
}

absl::Status CheckWelcome(const internal::v1::Welcome& welcome, const internal::v1::Hello& hello) {
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the shard protocol version", hello.protocol_version(),
                                      welcome.protocol_version()));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the first layer of the called shard", hello.next_layer(),
                                      welcome.first_layer()));
  YANGTUO_RETURN_IF_ERROR(ExpectEqual("the epoch", hello.epoch(), welcome.epoch()));
  if (welcome.last_layer() <= welcome.first_layer() || welcome.last_layer() > hello.num_layers() ||
      welcome.shards() == 0 || welcome.shards() > hello.num_layers() || welcome.kv_blocks() == 0 ||
      welcome.kv_blocks() > (std::uint32_t{1} << 30)) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the called shard describes itself as layers [%d, %d) of %d, %d shards and %d KV blocks",
        welcome.first_layer(), welcome.last_layer(), hello.num_layers(), welcome.shards(),
        welcome.kv_blocks()));
  }
  return ExpectAtMost("the number of KV blocks", hello.kv_blocks(),
                      static_cast<std::int32_t>(welcome.kv_blocks()));
}

}  // namespace yangtuo
