// Arbitrary bytes from another shard: never a crash, and whatever is accepted stays within what the
// stage behind can hold and survives the wire unchanged.
//
// The first byte says what the rest is: a frame as it arrives, a step, or a result. The checksum
// would keep a fuzzer from ever reaching the payloads through a frame.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "inference_core/model/stage.h"
#include "services/inference/shard_codec.h"
#include "services/inference/shard_frame.h"

namespace {

namespace pb = yangtuo::internal::v1;

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

yangtuo::StageInfo Stage() {
  yangtuo::StageInfo info;
  info.first_layer = 1;
  info.num_layers = 2;
  info.hidden = 2;
  info.vocab = 50;
  info.context_tokens = 40;
  info.kv_block_size = 4;
  info.kv_blocks = 6;
  info.max_step_tokens = 8;
  return info;
}

void CheckFrame(const std::string& bytes) {
  pb::RunRequest request;
  if (!request.ParseFromString(bytes) || !request.has_frame()) {
    return;
  }
  yangtuo::FrameVerifier verifier;
  if (verifier.Check(request.frame()).ok()) {
    Require(request.frame().number() == 1);
    Require(!verifier.Check(request.frame()).ok());
  }
  // A true frame of the same content passes.
  yangtuo::FrameSealer sealer;
  Require(yangtuo::FrameVerifier()
              .Check(sealer.Seal(request.frame().kind(), request.frame().payload()))
              .ok());
}

void CheckStep(const std::string& bytes) {
  pb::StepRequest request;
  if (!request.ParseFromString(bytes)) {
    return;
  }
  const yangtuo::StageInfo stage = Stage();
  const auto step = yangtuo::DecodeStep(request, stage);
  if (!step.ok()) {
    Require(step.status().code() == absl::StatusCode::kInvalidArgument);
    return;
  }
  Require(step->num_tokens() <= stage.max_step_tokens);
  Require(step->hidden.size() == static_cast<std::size_t>(step->num_tokens() * stage.hidden));
  for (const yangtuo::StepRows& rows : step->rows) {
    Require(rows.first_position >= 0 && !rows.token_ids.empty());
    for (const std::int32_t block : rows.kv_blocks) {
      Require(block >= 0 && block < stage.kv_blocks);
    }
    for (const yangtuo::TokenId id : rows.token_ids) {
      Require(id >= 0 && id < stage.vocab);
    }
  }
  const pb::StepRequest written = yangtuo::EncodeStep(*step);
  const auto again = yangtuo::DecodeStep(written, stage);
  Require(again.ok());
  Require(yangtuo::EncodeStep(*again).SerializeAsString() == written.SerializeAsString());
}

void CheckResult(const std::string& bytes) {
  pb::StepResponse response;
  if (!response.ParseFromString(bytes)) {
    return;
  }
  const auto result = yangtuo::DecodeStepResult(response, Stage());
  if (!result.ok()) {
    return;
  }
  for (const yangtuo::SequenceSample& sample : result->samples) {
    Require(sample.token.id >= 0 && sample.token.id < Stage().vocab);
  }
  const pb::StepResponse written = yangtuo::EncodeStepResult(*result);
  Require(yangtuo::DecodeStepResult(written, Stage()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 3) {
    case 0:
      CheckFrame(bytes);
      break;
    case 1:
      CheckStep(bytes);
      break;
    default:
      CheckResult(bytes);
  }
  return 0;
}
