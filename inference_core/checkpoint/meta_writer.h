#pragma once

#include <filesystem>
#include <memory>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/model_writer.h"

namespace yangtuo {

// The tensors of `model` as consolidated.NN.pth in `folder`: rows and columns shared out over
// model.meta_shards files, of which the last takes what does not divide; norms in each; queries and
// keys interleaved. A tied head is written as a copy of the embedding.
absl::StatusOr<std::unique_ptr<TensorSink>> NewMetaSink(const OutputModel& model,
                                                        const std::filesystem::path& folder);

}  // namespace yangtuo
