#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/tensor_file_writer.h"

namespace yangtuo {

// Safetensors has no type for our int8 and int4 rows, so that each lies there in parts, from the
// front of its row to the end:
//   int8 [out, in]: NAME             I8  [out, in]           the values
//                   NAME_scale       F32 [out]
//   int4 [out, in]: NAME             U8  [out, groups * 16]  the codes, two a byte
//                   NAME_multiplier  I8  [out, groups]
//                   NAME_scale       F32 [out]
// where groups = ceil(in / 32). `in` is not in the file: the model's configuration gives it.
struct TensorPart {
  std::string name;
  std::string_view type;  // as the file spells it
  std::vector<std::int64_t> shape;
  std::int64_t element_bytes = 0;
  std::int64_t row_bytes = 0;  // of each row of the whole tensor
};

// The parts of a tensor in the order of a row's bytes; one for the plain types. Empty for GGUF's
// block types, which safetensors files do not hold.
[[nodiscard]] std::vector<TensorPart> SafetensorsPartsOf(const TensorSpec& tensor);

// Writes one safetensors file. `metadata` goes into __metadata__ beside "format": "pt".
// INVALID_ARGUMENT for GGUF's block types.
absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewSafetensorsWriter(
    const std::filesystem::path& target, const std::vector<TensorSpec>& tensors,
    const std::map<std::string, std::string>& metadata);

}  // namespace yangtuo
