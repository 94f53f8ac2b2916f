#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/conversion_plan.h"
#include "inference_core/checkpoint/tensor_sink.h"
#include "inference_core/checkpoint/tensor_source.h"

namespace yangtuo {

struct CopyOptions {
  std::int32_t threads = 1;
  // Weights of a tensor's columns for quantization; none, or empty: all count the same.
  std::function<std::span<const float>(const TensorSpec& from)> importance;
  // Called between pieces on the calling thread with the bytes read so far.
  std::function<void(std::int64_t bytes_read)> on_progress;
  // Set by whoever wants it to end early: CANCELLED then.
  const std::atomic<bool>* stop = nullptr;
};

// What became of one tensor.
struct CopiedTensor {
  TensorSpec spec;           // as written
  std::string sha256;        // of its rows as written, in the model's order, hexadecimal
  std::string ends_sha256;   // of its first and last row
  std::int64_t rounded = 0;  // values that the new type does not hold exactly, of plain types
  // Of types with scales: sums of the squares of the values and of what each is off by.
  double square = 0;
  double squared_error = 0;
};

// Reads the tensors of `plan` from `source`, converts and appends them to `sink`, whose tensors are
// those of the plan in its order. `threads` read and convert while the calling one writes; memory
// stays within the plan's. The result does not depend on the number of threads.
absl::StatusOr<std::vector<CopiedTensor>> CopyTensors(const TensorSource& source,
                                                      const ConversionPlan& plan, TensorSink& sink,
                                                      const CopyOptions& options);

// Seconds that CopyTensors will take, extrapolated from a few pieces that are read and converted
// now and from `disk_bytes_per_second` of writing.
absl::StatusOr<double> EstimateSeconds(const TensorSource& source, const ConversionPlan& plan,
                                       const CopyOptions& options, double disk_bytes_per_second);

}  // namespace yangtuo
