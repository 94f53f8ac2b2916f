#include "inference_core/checkpoint/gguf_tokenizer.h"

#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/model_pieces.h"

namespace yangtuo {
namespace {

absl::StatusOr<std::vector<ModelPiece>> PiecesOf(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens,
                           metadata.Texts("tokenizer.ggml.tokens"));
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<float> scores,
                           metadata.Reals("tokenizer.ggml.scores"));
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<std::int64_t> types,
                           metadata.Wholes("tokenizer.ggml.token_type"));
  if (scores.size() != tokens.size() || types.size() != tokens.size()) {
    return absl::DataLossError(
        absl::StrFormat("%s: expected a score and a type for each of %d tokens, found %d and %d",
                        file.path().string(), tokens.size(), scores.size(), types.size()));
  }
  std::vector<ModelPiece> pieces;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::optional<PieceType> type = types[id] >= 0 && types[id] < 256
                                              ? PieceTypeOf(static_cast<std::int32_t>(types[id]))
                                              : std::nullopt;
    if (!type.has_value()) {
      return absl::DataLossError(
          absl::StrFormat("%s: key tokenizer.ggml.token_type: token %d: there is no type %d",
                          file.path().string(), id, types[id]));
    }
    pieces.push_back({.literal = std::string(tokens[id]), .score = scores[id], .type = *type});
  }
  return pieces;
}

}  // namespace

absl::StatusOr<std::string> TokenizerOfGguf(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  YANGTUO_ASSIGN_OR_RETURN(const std::string model, metadata.Text("tokenizer.ggml.model", ""));
  if (model != "llama" || metadata.Find("tokenizer.ggml.tokens") == nullptr) {
    return std::string();
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<ModelPiece> pieces, PiecesOf(file));
  BpeSettings settings;
  YANGTUO_ASSIGN_OR_RETURN(const std::int64_t unk,
                           metadata.Whole("tokenizer.ggml.unknown_token_id", settings.unk_id));
  YANGTUO_ASSIGN_OR_RETURN(const std::int64_t bos,
                           metadata.Whole("tokenizer.ggml.bos_token_id", settings.bos_id));
  YANGTUO_ASSIGN_OR_RETURN(const std::int64_t eos,
                           metadata.Whole("tokenizer.ggml.eos_token_id", settings.eos_id));
  // Some files say 2^32 - 1 for "none".
  YANGTUO_ASSIGN_OR_RETURN(const std::int64_t pad,
                           metadata.Whole("tokenizer.ggml.padding_token_id", -1));
  const auto count = static_cast<std::int64_t>(pieces.size());
  settings.unk_id = static_cast<std::int32_t>(unk < count ? unk : -1);
  settings.bos_id = static_cast<std::int32_t>(bos < count ? bos : -1);
  settings.eos_id = static_cast<std::int32_t>(eos < count ? eos : -1);
  if (pad >= 0 && pad < count) {
    settings.pad_id = static_cast<std::int32_t>(pad);
  }
  YANGTUO_ASSIGN_OR_RETURN(settings.add_dummy_prefix,
                           metadata.Flag("tokenizer.ggml.add_space_prefix", true));
  YANGTUO_ASSIGN_OR_RETURN(settings.remove_extra_whitespaces,
                           metadata.Flag("tokenizer.ggml.remove_extra_whitespaces", false));
  return MakeBpeModel(pieces, settings, file.path().string());
}

}  // namespace yangtuo
