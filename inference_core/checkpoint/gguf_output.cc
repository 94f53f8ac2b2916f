#include "inference_core/checkpoint/gguf_output.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/row_order.h"
#include "inference_core/formats/gguf_writer.h"
#include "inference_core/tokenizer/model_pieces.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {
namespace {

// llama.cpp's llama_ftype: the type of most matrices, for people.
std::uint32_t FileTypeOf(const OutputModel& model) {
  std::map<DType, std::int64_t> bytes;
  DType most = DType::kF32;
  for (const TensorSpec& tensor : model.tensors) {
    if (tensor.shape.size() == 2) {
      bytes[tensor.dtype] += tensor.rows() * tensor.cols();
      most = bytes[tensor.dtype] > bytes[most] ? tensor.dtype : most;
    }
  }
  switch (most) {
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ8_0:
      return 7;
    case DType::kQ5_0:
      return 8;
    case DType::kQ5_1:
      return 9;
    case DType::kQ2_K:
      return 10;
    case DType::kQ3_K:
      return 12;
    case DType::kQ4_K:
      return 15;
    case DType::kQ5_K:
      return 17;
    case DType::kQ6_K:
      return 18;
    case DType::kBF16:
      return 32;
    default:
      return 0;
  }
}

absl::Status SetTokenizer(const OutputModel& model, GgufKeyValues& keys) {
  if (model.tokenizer_model.empty()) {
    return absl::OkStatus();
  }
  YANGTUO_ASSIGN_OR_RETURN(const Vocabulary vocabulary,
                           Vocabulary::Parse(model.tokenizer_model, "tokenizer.model"));
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  std::int32_t unknown = 0;
  // One token a row of the embedding: llama.cpp insists.
  for (std::int32_t id = 0; id < model.config.vocab; ++id) {
    if (const auto added = model.added_tokens.find(id);
        !vocabulary.Contains(id) && added != model.added_tokens.end()) {
      // Control: never found in a user's text.
      tokens.push_back(added->second);
      scores.push_back(0);
      types.push_back(PieceTypeNumber(PieceType::kControl));
      continue;
    }
    if (!vocabulary.Contains(id)) {
      tokens.push_back(absl::StrFormat("[unused%d]", id));
      scores.push_back(0);
      types.push_back(PieceTypeNumber(PieceType::kUnused));
      continue;
    }
    const VocabularyPiece& piece = vocabulary.piece(id);
    tokens.push_back(piece.literal);
    scores.push_back(piece.score);
    types.push_back(PieceTypeNumber(piece.type));
    unknown = piece.type == PieceType::kUnknown ? id : unknown;
  }
  keys.SetText("tokenizer.ggml.model", "llama");
  keys.SetText("tokenizer.ggml.pre", "default");
  keys.SetTexts("tokenizer.ggml.tokens", tokens);
  keys.SetReals("tokenizer.ggml.scores", scores);
  keys.SetWholes("tokenizer.ggml.token_type", types);
  keys.SetUint32("tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t>(unknown));
  keys.SetBool("tokenizer.ggml.add_bos_token", true);
  keys.SetBool("tokenizer.ggml.add_eos_token", false);
  if (!model.chat_template.empty()) {
    keys.SetText("tokenizer.chat_template", model.chat_template);
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufKeyValues> KeysOf(const OutputModel& model) {
  const LlamaConfig& config = model.config;
  GgufKeyValues keys;
  const auto set = [&keys](const char* key, std::int32_t value) {
    keys.SetUint32(key, static_cast<std::uint32_t>(value));
  };
  keys.SetText("general.architecture", "llama");
  keys.SetText("general.name", model.path.stem().string());
  keys.SetUint32("general.file_type", FileTypeOf(model));
  keys.SetUint32("general.quantization_version", 2);
  set("llama.vocab_size", config.vocab);
  set("llama.context_length", config.context_tokens);
  set("llama.embedding_length", config.hidden);
  set("llama.block_count", config.layers);
  set("llama.feed_forward_length", config.ffn);
  set("llama.rope.dimension_count", config.head_dim);
  set("llama.attention.head_count", config.heads);
  set("llama.attention.head_count_kv", config.kv_heads);
  if (config.head_dim * config.heads != config.hidden) {
    set("llama.attention.key_length", config.head_dim);
    set("llama.attention.value_length", config.head_dim);
  }
  keys.SetFloat32("llama.attention.layer_norm_rms_epsilon", config.norm_eps);
  keys.SetFloat32("llama.rope.freq_base", config.rope_theta);
  if (config.rope_linear_factor != 1.0F) {
    keys.SetText("llama.rope.scaling.type", "linear");
    keys.SetFloat32("llama.rope.scaling.factor", config.rope_linear_factor);
  }
  set("tokenizer.ggml.bos_token_id", config.bos_id);
  if (!config.eos_ids.empty()) {
    set("tokenizer.ggml.eos_token_id", config.eos_ids.front());
  }
  YANGTUO_RETURN_IF_ERROR(SetTokenizer(model, keys));
  return keys;
}

class GgufSink final : public TensorSink {
 public:
  GgufSink(std::unique_ptr<TensorFileWriter> writer,
           std::map<std::size_t, HeadInterleaver> interleavers)
      : writer_(std::move(writer)), interleavers_(std::move(interleavers)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override {
    const auto found = interleavers_.find(index);
    return writer_->Append(index, found == interleavers_.end() ? rows : found->second.Take(rows));
  }

  absl::Status Finish() override { return writer_->Finish(); }

 private:
  std::unique_ptr<TensorFileWriter> writer_;
  std::map<std::size_t, HeadInterleaver> interleavers_;  // of queries and keys
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSink>> NewGgufSink(const OutputModel& model) {
  const std::vector<LlamaTensor> tensors = ListLlamaTensors(model.config);
  std::vector<TensorSpec> specs = model.tensors;
  std::map<std::size_t, HeadInterleaver> interleavers;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    specs[i].name = GgufName(tensors[i]);
    if (IsRotary(tensors[i].part)) {
      interleavers.emplace(i, HeadInterleaver(model.config.head_dim, specs[i].row_bytes()));
    }
  }
  YANGTUO_ASSIGN_OR_RETURN(const GgufKeyValues keys, KeysOf(model));
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<TensorFileWriter> writer,
                           NewGgufWriter(model.path, keys, specs));
  return std::make_unique<GgufSink>(std::move(writer), std::move(interleavers));
}

}  // namespace yangtuo
