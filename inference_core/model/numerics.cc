#include "inference_core/model/numerics.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/grouped_rows.h"
#include "inference_core/kernels/row_policy.h"
#include "inference_core/model/llama_weights.h"

namespace yangtuo {
namespace {

// Raised whenever our own kernels change a bit of what they compute.
constexpr int kNumericsVersion = 2;

kernels::MatmulType TypeOfProducts(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return kernels::MatmulType::kF32;
    case WeightType::kBF16:
      return kernels::MatmulType::kBF16;
    case WeightType::kInt8:
      return kernels::MatmulType::kInt8;
    case WeightType::kInt4:
      return kernels::MatmulType::kInt4;
    case WeightType::kGguf:
      return kernels::MatmulType::kGguf;
    case WeightType::kAuto:
      break;
  }
  return kernels::HasFastBf16() ? kernels::MatmulType::kBF16 : kernels::MatmulType::kF32;
}

const char* NameOf(kernels::MatmulType type) {
  switch (type) {
    case kernels::MatmulType::kF32:
      return "f32";
    case kernels::MatmulType::kBF16:
      return "bf16";
    case kernels::MatmulType::kInt8:
      return "int8";
    case kernels::MatmulType::kInt4:
      return "int4";
    case kernels::MatmulType::kGguf:
      return "gguf";
  }
  return "?";
}

}  // namespace

absl::StatusOr<Numerics> DecideNumerics(const LlamaConfig& config,
                                        const NumericsQuestion& question) {
  Numerics numerics;
  numerics.matmul.type = TypeOfProducts(question.type);
  numerics.matmul.integer_path = question.path;
  numerics.matmul.threads = question.threads;
  numerics.weight_type = NameOf(numerics.matmul.type);
  std::string weights = numerics.weight_type;
  if (numerics.matmul.type == kernels::MatmulType::kGguf) {
    weights += "-" + question.stored;
  }
  const std::string types = absl::StrFormat("%s/kv-%s", weights, kernels::NameOf(question.kv_type));
  const std::string instructions =
      kernels::MatmulInstructionSet(numerics.matmul.type, question.path);
  if (kernels::IsInteger(numerics.matmul.type)) {
    // Creating a workspace finds out whether this CPU has the instruction set.
    YANGTUO_RETURN_IF_ERROR(kernels::MatmulWorkspace::Create(numerics.matmul).status());
    numerics.name = absl::StrFormat("%s/%s/v%d", types, instructions, kNumericsVersion);
    return numerics;
  }
  const std::vector<kernels::MatmulShape> shapes = MatmulShapes(config);
  const absl::StatusOr<kernels::RowPolicyFinding> finding =
      kernels::FindRowPolicy({.type = numerics.matmul.type,
                              .shapes = shapes,
                              .threads = question.threads,
                              .max_rows = question.max_rows});
  if (!finding.ok()) {
    return absl::Status(finding.status().code(),
                        absl::StrFormat("weight type %s on this CPU (%s): %s", numerics.weight_type,
                                        instructions, std::string(finding.status().message())));
  }
  numerics.matmul.row_policy = finding->policy;
  numerics.name = absl::StrFormat("%s/%s/%s/%08x/v%d", types, instructions, finding->policy.Name(),
                                  finding->fingerprint, kNumericsVersion);
  return numerics;
}

std::string StoredTypes(const TensorSource& tensors) {
  std::set<DType> types;
  for (const TensorSpec& tensor : tensors.tensors()) {
    if (tensor.shape.size() == 2) {
      types.insert(kernels::IsGrouped(tensor.dtype) ? tensor.dtype : DType::kQ8_0);
    }
  }
  std::string names;
  for (const DType type : types) {
    names += absl::StrFormat("%s%s", names.empty() ? "" : "+", yangtuo::NameOf(type));
  }
  return names;
}

WeightType WeightTypeFor(const TensorSource& tensors) {
  // What most of the weights are stored as, norms aside.
  std::int64_t weights = 0;
  std::int64_t bits = 0;
  for (const TensorSpec& tensor : tensors.tensors()) {
    const bool product = tensor.shape.size() == 2 &&
                         tensor.name.find("embed_tokens") == std::string::npos &&
                         tensor.name.find("lm_head") == std::string::npos;
    if (product) {
      weights += tensor.rows() * tensor.cols();
      bits += tensor.bytes() * 8;
    }
  }
  if (weights == 0 || bits > weights * 9) {
    return WeightType::kAuto;
  }
  return bits > weights * 5 ? WeightType::kInt8 : WeightType::kInt4;
}

}  // namespace yangtuo
