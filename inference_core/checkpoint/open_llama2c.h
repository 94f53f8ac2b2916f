#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"

namespace yangtuo {

// A model of llama2.c: one .bin file of f32, with a tokenizer.model beside it if there is one. The
// file does not say how norms are computed; llama2.c's run.c adds 1e-5.
absl::StatusOr<Checkpoint> OpenLlama2cFile(const std::filesystem::path& path);

}  // namespace yangtuo
