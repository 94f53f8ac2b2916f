#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "tools/inspect/inspect.h"

namespace yangtuo {

// One safetensors or torch file by itself, which has no configuration: its tensors, and by their
// names what they are a part of and what is still needed. Errors are those of the readers.
absl::StatusOr<Inspection> InspectTensorFile(const std::filesystem::path& path);

}  // namespace yangtuo
