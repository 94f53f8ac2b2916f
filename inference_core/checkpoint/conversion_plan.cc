#include "inference_core/checkpoint/conversion_plan.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

constexpr std::int64_t kElementsAtOnce = std::int64_t{1} << 20;
// Allocator, threads' stacks, tokenizer, headers: measured on small models.
constexpr std::int64_t kFixedMemory = std::int64_t{48} << 20;
// Pieces in memory for each thread: one at work, two waiting to be written.
constexpr std::int64_t kPiecesPerThread = 3;
// A piece at work: what was read, floats, sums of a merge, what is written.
constexpr std::int64_t kBytesPerElement = 4 + 4 + 8 + 4;

bool IsNorm(const TensorSpec& spec) { return spec.shape.size() < 2; }

// What a row that does not divide into blocks is kept in.
DType PlainFor(DType from) { return from == DType::kBF16 ? DType::kBF16 : DType::kF16; }

}  // namespace

TypePolicy UniformTypes(DType matrices, DType norms) {
  return [=](const TensorSpec& from) { return IsNorm(from) ? norms : matrices; };
}

TypePolicy SameTypes() {
  return [](const TensorSpec& from) { return from.dtype; };
}

Fidelity FidelityOf(DType from, DType to) {
  if (from == to || (to == DType::kF32 && IsPlain(from))) {
    return Fidelity::kExact;
  }
  if (IsPlain(to)) {
    return Fidelity::kRounded;
  }
  return IsPlain(from) ? Fidelity::kCoded : Fidelity::kRecoded;
}

std::int64_t ConversionPlan::elements() const {
  std::int64_t sum = 0;
  for (const PlannedTensor& tensor : tensors) {
    sum += tensor.from.rows() * tensor.from.cols();
  }
  return sum;
}

double ConversionPlan::bits_per_weight() const {
  return 8.0 * static_cast<double>(bytes_written) /
         static_cast<double>(std::max<std::int64_t>(elements(), 1));
}

std::int64_t RowsAtOnce(const TensorSpec& spec) {
  return std::max<std::int64_t>(1, std::min(spec.rows(), kElementsAtOnce / spec.cols()));
}

absl::StatusOr<ConversionPlan> PlanConversion(const TensorSource& source, const TypePolicy& policy,
                                              std::int32_t threads) {
  ConversionPlan plan;
  std::int64_t largest_piece = 0;
  for (const TensorSpec& from : source.tensors()) {
    PlannedTensor tensor{.from = from, .to = from, .asked = policy(from)};
    if (tensor.asked != from.dtype && !CanQuantizeTo(tensor.asked)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "tensor %s: type %s can be read but not written", from.name, NameOf(tensor.asked)));
    }
    tensor.to.dtype = RowFits(tensor.asked, from.cols()) ? tensor.asked : PlainFor(from.dtype);
    plan.bytes_read += from.bytes();
    plan.bytes_written += tensor.to.bytes();
    largest_piece = std::max(largest_piece, RowsAtOnce(from) * from.cols());
    plan.tensors.push_back(std::move(tensor));
  }
  plan.memory_bytes =
      kFixedMemory + largest_piece * kBytesPerElement * kPiecesPerThread * std::max(threads, 1);
  return plan;
}

}  // namespace yangtuo
