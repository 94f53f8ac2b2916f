#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// The text of a config.json for `config` and weights of `plain` type. Keys of `original`, another
// config.json, stay as they are unless they say something else; an empty path: none.
absl::StatusOr<std::string> HfConfigText(const LlamaConfig& config, DType plain,
                                         const std::filesystem::path& original);

// The text of a params.json as Meta's programs read it. Their feed-forward size is 8/3 of the
// hidden size, times ffn_dim_multiplier if there is one, rounded up to multiple_of: these two are
// chosen so that `config.ffn` comes out.
std::string MetaParamsText(const LlamaConfig& config);

// What a params.json and the tensors' sizes say together. INVALID_ARGUMENT names the file and key.
struct MetaSizes {
  std::int64_t vocab = 0;
  std::int64_t ffn = 0;
};
absl::StatusOr<LlamaConfig> ParseMetaParams(std::string_view json, std::string_view file,
                                            MetaSizes sizes);

}  // namespace yangtuo
