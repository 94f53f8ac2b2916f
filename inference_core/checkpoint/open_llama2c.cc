#include "inference_core/checkpoint/open_llama2c.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/stored_tensors.h"
#include "inference_core/formats/llama2c.h"

namespace yangtuo {
namespace {

absl::StatusOr<LlamaConfig> ConfigOf(const Llama2cContents& contents, const std::string& file) {
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"hidden_size", contents.hidden},
                                 {"intermediate_size", contents.ffn},
                                 {"num_hidden_layers", contents.layers},
                                 {"num_attention_heads", contents.heads},
                                 {"num_key_value_heads", contents.kv_heads},
                                 {"vocab_size", contents.vocab},
                                 {"max_position_embeddings", contents.context_tokens},
                                 {"rms_norm_eps", 1e-5},
                                 {"tie_word_embeddings", contents.tied_embeddings}};
  return ParseLlamaConfig(config.dump(), file);
}

}  // namespace

absl::StatusOr<Checkpoint> OpenLlama2cFile(const std::filesystem::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(Llama2cFile opened, Llama2cFile::Open(path));
  const auto file = std::make_shared<const Llama2cFile>(std::move(opened));
  const Llama2cContents& contents = file->contents();
  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = CheckpointFormat::kLlama2C;
  YANGTUO_ASSIGN_OR_RETURN(checkpoint.config, ConfigOf(contents, path.string()));
  std::vector<StoredPlace> places;
  for (const LlamaTensor& tensor : ListLlamaTensors(checkpoint.config)) {
    const std::string name = MetaName(tensor);
    const auto found =
        std::find_if(contents.tensors.begin(), contents.tensors.end(),
                     [&](const StoredTensor& stored) { return stored.name == name; });
    if (found == contents.tensors.end() || found->shape != tensor.shape) {
      return absl::InternalError(
          absl::StrFormat("%s: tensor %s is not as its header says", path.string(), name));
    }
    StoredPlace place{
        .spec = {.name = HfName(tensor), .dtype = found->dtype, .shape = found->shape},
        .bands = {}};
    place.bands.push_back({.rows = found->rows(), .parts = {RowsOf(*found)}});
    if (IsRotary(tensor.part)) {
      place.interleaved_head_dim = checkpoint.config.head_dim;
    }
    places.push_back(std::move(place));
  }
  checkpoint.tensors = MakeStoredSource(std::move(places), file);
  Sha256 digest;
  digest.Update(checkpoint.config.Canonical());
  digest.Update(contents.header);
  checkpoint.digest = digest.FinishHex();
  return checkpoint;
}

}  // namespace yangtuo
