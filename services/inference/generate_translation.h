#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/engine/engine.h"
#include "inference_core/grammar/answer_constraint.h"
#include "inference_core/model/stage.h"
#include "yangtuo/internal/v1/inference.pb.h"

// Translation between inference.proto and the engine. Pure functions; every field has an effect or
// is refused with its name.
namespace yangtuo {

// What requests are checked against.
struct ServedModel {
  StageInfo stage;
  std::vector<TokenId> eos_ids;
  // What the head shares when it is here; null: constraints are checked without the vocabulary.
  std::shared_ptr<AnswerConstraints> constraints = nullptr;
};

// Model digest and numerics in one: same id, same tokens.
std::string NumericsId(const std::string& model_digest, const std::string& numerics);

// Everything of EngineRequest but the deadline. INVALID_ARGUMENT names the field (reason
// CONTEXT_LENGTH_EXCEEDED with numbers for too long a prompt); FAILED_PRECONDITION for another
// numerics id (reason NUMERICS_MISMATCH).
absl::StatusOr<EngineRequest> ToEngineRequest(const internal::v1::GenerateRequest& request,
                                              const ServedModel& model);
absl::StatusOr<EngineRequest> ToEngineRequest(const internal::v1::EmbedRequest& request,
                                              const ServedModel& model);

yangtuo::v1::PositionLogprobs ToProto(const SampledToken& token);

// The last message of a stream that ended well.
internal::v1::GenerateFinished ToProto(const SequenceOutcome& outcome);

internal::v1::PrefixScheme ToProto(const PrefixScheme& scheme);

// Gives an engine's refusal or failure the reason and retry hint that clients act on.
enum class Acceptance { kOpen, kDraining };
absl::Status DescribeFailure(const absl::Status& status, Acceptance acceptance);

}  // namespace yangtuo
