#include "inference_core/checkpoint/open_gguf.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/gguf_tokenizer.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/stored_tensors.h"
#include "inference_core/formats/nearest_name.h"

namespace yangtuo {
namespace {

using nlohmann::json;

absl::Status Unsupported(const GgufFile& file, const std::string& key, const std::string& supported,
                         const std::string& found) {
  return absl::UnimplementedError(absl::StrFormat("%s: key %s: only %s is supported, found %s",
                                                  file.path().string(), key, supported, found));
}

absl::StatusOr<StoredTensor> FindTensor(const GgufFile& file, const std::string& name) {
  const StoredTensor* const found = file.FindStored(name);
  if (found == nullptr) {
    std::vector<std::string> names;
    for (const StoredTensor& tensor : file.tensors()) {
      names.push_back(tensor.name);
    }
    return absl::NotFoundError(absl::StrFormat("%s has no tensor %s%s", file.path().string(), name,
                                               NearestTensorHint(name, names)));
  }
  if (!found->unsupported_type.empty()) {
    return absl::UnimplementedError(absl::StrFormat("%s: tensor %s: type %s is not supported",
                                                    file.path().string(), name,
                                                    found->unsupported_type));
  }
  return *found;
}

// Position interpolation under its old and its new key. As llama.cpp reads them, a factor without a
// type is one of interpolation, 0 is none, and the type "none" switches off either key.
absl::Status AddRopeScaling(const GgufFile& file, json& config) {
  const GgufMetadata& metadata = file.metadata();
  if (file.FindStored("rope_freqs.weight") != nullptr) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: tensor rope_freqs.weight: rotary frequencies of its own are not supported",
        file.path().string()));
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::string type,
                           metadata.Text("llama.rope.scaling.type", "linear"));
  if (type != "none" && type != "linear") {
    return Unsupported(file, "llama.rope.scaling.type", "none or linear", type);
  }
  YANGTUO_ASSIGN_OR_RETURN(const double old_factor, metadata.Real("llama.rope.scale_linear", 1.0));
  YANGTUO_ASSIGN_OR_RETURN(const double factor,
                           metadata.Real("llama.rope.scaling.factor", old_factor));
  if (factor != 1.0 && factor != 0.0 && type == "linear") {
    config["rope_scaling"] = {{"type", "linear"}, {"factor", factor}};
  }
  return absl::OkStatus();
}

absl::Status AddTokens(const GgufFile& file, json& config) {
  constexpr std::pair<const char*, const char*> kIds[] = {
      {"tokenizer.ggml.bos_token_id", "bos_token_id"},
      {"tokenizer.ggml.eos_token_id", "eos_token_id"}};
  for (const auto& [key, name] : kIds) {
    if (file.metadata().Find(key) != nullptr) {
      YANGTUO_ASSIGN_OR_RETURN(config[name], file.metadata().Whole(key));
    }
  }
  return absl::OkStatus();
}

// What LLaMA has none of; a model computed without them would be another one.
absl::Status CheckNoBiases(const GgufFile& file) {
  for (const StoredTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(".bias")) {
      return absl::UnimplementedError(absl::StrFormat("%s: tensor %s: biases are not supported",
                                                      file.path().string(), tensor.name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredPlace> PlaceOf(const LlamaTensor& tensor, const GgufFile& file,
                                    const LlamaConfig& config) {
  const std::string name = GgufName(tensor);
  YANGTUO_ASSIGN_OR_RETURN(const StoredTensor stored, FindTensor(file, name));
  if (stored.shape != tensor.shape) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: tensor %s: expected shape [%s] by the metadata, found [%s]", file.path().string(),
        name, absl::StrJoin(tensor.shape, ", "), absl::StrJoin(stored.shape, ", ")));
  }
  StoredPlace place{.spec = {.name = HfName(tensor), .dtype = stored.dtype, .shape = stored.shape},
                    .bands = {}};
  place.bands.push_back({.rows = stored.rows(), .parts = {RowsOf(stored)}});
  if (IsRotary(tensor.part)) {
    place.interleaved_head_dim = config.head_dim;
  }
  return place;
}

}  // namespace

absl::StatusOr<LlamaConfig> ReadGgufConfig(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  YANGTUO_ASSIGN_OR_RETURN(const std::string architecture, metadata.Text("general.architecture"));
  if (architecture != "llama") {
    return Unsupported(file, "general.architecture", "llama", architecture);
  }
  YANGTUO_ASSIGN_OR_RETURN(const StoredTensor embedding, FindTensor(file, "token_embd.weight"));
  // The same things under Hugging Face's names, whose reader checks them.
  json config = {{"model_type", "llama"},
                 {"vocab_size", embedding.rows()},
                 {"tie_word_embeddings", file.FindStored("output.weight") == nullptr}};
  constexpr std::pair<const char*, const char*> kSizes[] = {
      {"llama.block_count", "num_hidden_layers"},
      {"llama.embedding_length", "hidden_size"},
      {"llama.attention.head_count", "num_attention_heads"},
      {"llama.feed_forward_length", "intermediate_size"},
      {"llama.context_length", "max_position_embeddings"}};
  for (const auto& [key, name] : kSizes) {
    YANGTUO_ASSIGN_OR_RETURN(config[name], metadata.Whole(key));
  }
  YANGTUO_ASSIGN_OR_RETURN(config["num_key_value_heads"],
                           metadata.Whole("llama.attention.head_count_kv",
                                          config["num_attention_heads"].get<std::int64_t>()));
  if (metadata.Find("llama.attention.key_length") != nullptr) {
    YANGTUO_ASSIGN_OR_RETURN(config["head_dim"], metadata.Whole("llama.attention.key_length"));
  }
  YANGTUO_ASSIGN_OR_RETURN(config["rms_norm_eps"],
                           metadata.Real("llama.attention.layer_norm_rms_epsilon"));
  YANGTUO_ASSIGN_OR_RETURN(config["rope_theta"], metadata.Real("llama.rope.freq_base", 10000.0));
  YANGTUO_RETURN_IF_ERROR(AddRopeScaling(file, config));
  YANGTUO_RETURN_IF_ERROR(AddTokens(file, config));
  YANGTUO_ASSIGN_OR_RETURN(const LlamaConfig read,
                           ParseLlamaConfig(config.dump(), file.path().string()));
  YANGTUO_ASSIGN_OR_RETURN(const std::int64_t rotary,
                           metadata.Whole("llama.rope.dimension_count", read.head_dim));
  if (rotary != read.head_dim) {
    return Unsupported(file, "llama.rope.dimension_count",
                       absl::StrFormat("the whole head (%d)", read.head_dim),
                       absl::StrFormat("%d", rotary));
  }
  return read;
}

absl::StatusOr<Checkpoint> OpenGgufFile(const std::filesystem::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(GgufFile opened, GgufFile::Open(path));
  const auto file = std::make_shared<const GgufFile>(std::move(opened));
  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = CheckpointFormat::kGguf;
  YANGTUO_RETURN_IF_ERROR(CheckNoBiases(*file));
  YANGTUO_ASSIGN_OR_RETURN(checkpoint.config, ReadGgufConfig(*file));
  std::vector<StoredPlace> places;
  for (const LlamaTensor& tensor : ListLlamaTensors(checkpoint.config)) {
    YANGTUO_ASSIGN_OR_RETURN(StoredPlace place, PlaceOf(tensor, *file, checkpoint.config));
    places.push_back(std::move(place));
  }
  checkpoint.tensors = MakeStoredSource(std::move(places), file);
  YANGTUO_ASSIGN_OR_RETURN(checkpoint.chat_template,
                           file->metadata().Text("tokenizer.chat_template", ""));
  YANGTUO_ASSIGN_OR_RETURN(checkpoint.tokenizer_model, TokenizerOfGguf(*file));
  checkpoint.digest = file->WeakDigest(checkpoint.config.Canonical());
  return checkpoint;
}

}  // namespace yangtuo
