#include "tools/bench_make_model/make_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <span>

#include "absl/strings/str_format.h"
#include "inference_core/base/float16.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/formats/gguf_writer.h"

namespace yangtuo {
namespace {

constexpr std::int32_t kVocab = 55296;
constexpr std::int32_t kContext = 4096;
constexpr std::int32_t kBytePieces = 256;
constexpr std::int64_t kPieceBytes = std::int64_t{8} << 20;

// Types of pieces and general.file_type as llama.cpp numbers them (its llama.h).
constexpr std::int32_t kNormalPiece = 1;
constexpr std::int32_t kUnknownPiece = 2;
constexpr std::int32_t kControlPiece = 3;
constexpr std::int32_t kBytePiece = 6;

// splitmix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  void Fill(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const std::uint64_t word = Next();
      const std::size_t count = std::min(bytes.size(), sizeof(word));
      std::memcpy(bytes.data(), &word, count);
      bytes = bytes.subspan(count);
    }
  }

 private:
  std::uint64_t state_;
};

// Codes drawn evenly from -8 .. 7 or -128 .. 127, times one scale, have the spread 1 / sqrt(cols).
void FillBlocks(DType type, std::int64_t cols, Random& random, std::span<std::byte> rows) {
  random.Fill(rows);
  const double spread = 1.0 / std::sqrt(static_cast<double>(cols));
  if (type == DType::kF16) {
    // Ten random bits below a fixed exponent and a random sign: 1 to 2 times a power of two.
    const std::uint16_t exponent = FloatToF16(static_cast<float>(spread / 2)) & 0x7C00U;
    for (std::size_t i = 0; i + 2 <= rows.size(); i += 2) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, rows.data() + i, 2);
      bits = static_cast<std::uint16_t>((bits & 0x83FFU) | exponent);
      std::memcpy(rows.data() + i, &bits, 2);
    }
    return;
  }
  const double codes = type == DType::kQ4_0 ? 4.6 : 73.9;
  const std::uint16_t scale = FloatToF16(static_cast<float>(spread / codes));
  const auto block = static_cast<std::size_t>(LayoutOf(type).bytes);
  for (std::size_t i = 0; i < rows.size(); i += block) {
    std::memcpy(rows.data() + i, &scale, sizeof(scale));
  }
}

GgufKeyValues Describe(const LlamaConfig& config, DType type) {
  GgufKeyValues keys;
  const auto whole = [&](const char* key, std::int32_t value) {
    keys.SetUint32(key, static_cast<std::uint32_t>(value));
  };
  keys.SetText("general.architecture", "llama");
  keys.SetText("general.name", "made up");
  whole("general.file_type", type == DType::kF16 ? 1 : type == DType::kQ4_0 ? 2 : 7);
  whole("llama.context_length", config.context_tokens);
  whole("llama.embedding_length", config.hidden);
  whole("llama.block_count", config.layers);
  whole("llama.feed_forward_length", config.ffn);
  whole("llama.attention.head_count", config.heads);
  whole("llama.attention.head_count_kv", config.kv_heads);
  whole("llama.rope.dimension_count", config.head_dim);
  whole("llama.vocab_size", config.vocab);
  keys.SetFloat32("llama.attention.layer_norm_rms_epsilon", config.norm_eps);
  keys.SetFloat32("llama.rope.freq_base", config.rope_theta);
  std::vector<std::string> pieces = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {kUnknownPiece, kControlPiece, kControlPiece};
  for (std::int32_t byte = 0; byte < kBytePieces; ++byte) {
    pieces.push_back(absl::StrFormat("<0x%02X>", byte));
    types.push_back(kBytePiece);
  }
  while (static_cast<std::int32_t>(pieces.size()) < config.vocab) {
    pieces.push_back(absl::StrFormat("\xE2\x96\x81w%d", pieces.size()));
    types.push_back(kNormalPiece);
  }
  std::vector<float> scores(pieces.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = -static_cast<float>(i);
  }
  keys.SetText("tokenizer.ggml.model", "llama");
  keys.SetTexts("tokenizer.ggml.tokens", pieces);
  keys.SetReals("tokenizer.ggml.scores", scores);
  keys.SetWholes("tokenizer.ggml.token_type", types);
  whole("tokenizer.ggml.bos_token_id", 1);
  whole("tokenizer.ggml.eos_token_id", 2);
  whole("tokenizer.ggml.unknown_token_id", 0);
  return keys;
}

}  // namespace

std::vector<std::string> ShapeNames() { return {"1.3b", "7b", "13b", "33b", "65b"}; }

std::optional<LlamaConfig> NamedShape(const std::string& name) {
  struct Sizes {
    std::int32_t layers;
    std::int32_t hidden;
    std::int32_t heads;
    std::int32_t ffn;
  };
  // LLaMA's own sizes (arXiv:2302.13971, table 2).
  static const std::map<std::string, Sizes> kSizes = {{"1.3b", {4, 4096, 32, 11008}},
                                                      {"7b", {32, 4096, 32, 11008}},
                                                      {"13b", {40, 5120, 40, 13824}},
                                                      {"33b", {60, 6656, 52, 17920}},
                                                      {"65b", {80, 8192, 64, 22016}}};
  const auto found = kSizes.find(name);
  if (found == kSizes.end()) {
    return std::nullopt;
  }
  LlamaConfig config;
  config.layers = found->second.layers;
  config.hidden = found->second.hidden;
  config.heads = found->second.heads;
  config.kv_heads = config.heads;
  config.head_dim = config.hidden / config.heads;
  config.ffn = found->second.ffn;
  config.vocab = kVocab;
  config.context_tokens = kContext;
  config.norm_eps = 1e-5F;
  return config;
}

bool CanMakeUp(DType type) {
  return type == DType::kF16 || type == DType::kQ8_0 || type == DType::kQ4_0;
}

absl::Status MakeModel(
    const LlamaConfig& config, DType type, const std::filesystem::path& file,
    const std::function<void(std::int64_t bytes, std::int64_t of)>& on_progress) {
  if (!CanMakeUp(type)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("models are made up in f16, q8_0 and q4_0, not in %s", NameOf(type)));
  }
  std::vector<TensorSpec> tensors;
  std::int64_t total = 0;
  for (const LlamaTensor& tensor : ListLlamaTensors(config)) {
    tensors.push_back({.name = GgufName(tensor),
                       .dtype = IsNorm(tensor.part) ? DType::kF32 : type,
                       .shape = tensor.shape});
    total += tensors.back().bytes();
  }
  YANGTUO_ASSIGN_OR_RETURN(const auto writer, NewGgufWriter(file, Describe(config, type), tensors));
  Random random(1);
  std::int64_t done = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = tensors[i];
    const std::int64_t at_once = std::max<std::int64_t>(1, kPieceBytes / tensor.row_bytes());
    std::vector<std::byte> rows;
    for (std::int64_t row = 0; row < tensor.rows(); row += at_once) {
      const std::int64_t count = std::min(at_once, tensor.rows() - row);
      rows.resize(static_cast<std::size_t>(count * tensor.row_bytes()));
      if (tensor.dtype == DType::kF32) {
        const std::vector<float> ones(rows.size() / sizeof(float), 1.0F);
        std::memcpy(rows.data(), ones.data(), rows.size());
      } else {
        FillBlocks(tensor.dtype, tensor.cols(), random, rows);
      }
      YANGTUO_RETURN_IF_ERROR(writer->Append(i, rows));
      done += static_cast<std::int64_t>(rows.size());
      on_progress(done, total);
    }
  }
  return writer->Finish();
}

}  // namespace yangtuo
