#include "inference_core/formats/llama2c.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/byte_reader.h"

namespace yangtuo {
namespace {

constexpr std::uint32_t kNewerMagic = 0x616b3432;
// Beyond every model in this format, and small enough that no product of them overflows.
constexpr std::int32_t kMostLayers = 1024;
constexpr std::int32_t kMostSize = 1 << 20;

// Reads one file. Lives for one call.
class FileReader {
 public:
  FileReader(std::span<const std::byte> bytes, const std::filesystem::path& file)
      : bytes_(bytes), file_(file), reader_(bytes) {}

  absl::StatusOr<Llama2cContents> Read();

 private:
  [[nodiscard]] absl::Status Fault(const std::string& what) const {
    return absl::DataLossError(
        absl::StrFormat("%s: offset %d: %s; not a model of llama2.c, or damaged", file_.string(),
                        reader_.offset(), what));
  }
  [[nodiscard]] absl::Status ReadSizes();
  // One tensor of `shape` for each layer, "layers.N.NAME"; for `layers` 0 one, "NAME".
  [[nodiscard]] absl::Status Take(std::int32_t layers, std::string_view name,
                                  const std::vector<std::int64_t>& shape);

  std::span<const std::byte> bytes_;
  const std::filesystem::path& file_;
  ByteReader reader_;
  Llama2cContents model_;
};

absl::Status FileReader::ReadSizes() {
  if (ByteReader(bytes_).Take<std::uint32_t>() == kNewerMagic) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: only version 0 of llama2.c's format is read; export the model with --version 0",
        file_.string()));
  }
  for (std::int32_t* const size : {&model_.hidden, &model_.ffn, &model_.layers, &model_.heads,
                                   &model_.kv_heads, &model_.vocab, &model_.context_tokens}) {
    *size = reader_.Take<std::int32_t>().value_or(0);
  }
  // The sign of the vocabulary says whether the output weights are in the file.
  model_.tied_embeddings = model_.vocab > 0;
  model_.vocab = model_.vocab < 0 && model_.vocab >= -kMostSize ? -model_.vocab : model_.vocab;
  for (const std::int32_t size : {model_.hidden, model_.ffn, model_.heads, model_.kv_heads,
                                  model_.vocab, model_.context_tokens}) {
    if (size < 1 || size > kMostSize) {
      return Fault(absl::StrFormat("expected sizes from 1 to %d, found %d", kMostSize, size));
    }
  }
  if (model_.layers < 1 || model_.layers > kMostLayers) {
    return Fault(absl::StrFormat("expected 1 to %d layers, found %d", kMostLayers, model_.layers));
  }
  if (model_.hidden % model_.heads != 0 || model_.hidden / model_.heads % 2 != 0 ||
      model_.heads % model_.kv_heads != 0) {
    return Fault(absl::StrFormat("%d hidden, %d heads and %d kv heads do not divide", model_.hidden,
                                 model_.heads, model_.kv_heads));
  }
  model_.header = bytes_.first(reader_.offset());
  return absl::OkStatus();
}

absl::Status FileReader::Take(std::int32_t layers, std::string_view name,
                              const std::vector<std::int64_t>& shape) {
  StoredTensor tensor = {.name = "", .dtype = DType::kF32, .shape = shape, .data = {}};
  tensor.file = &file_;
  const auto bytes = static_cast<std::uint64_t>(tensor.rows() * tensor.bytes_per_row());
  for (std::int32_t layer = 0; layer < std::max(layers, 1); ++layer) {
    tensor.name = layers == 0 ? std::string(name) : absl::StrFormat("layers.%d.%s", layer, name);
    const auto data = reader_.TakeBytes(bytes);
    if (!data.has_value()) {
      return Fault(absl::StrFormat("tensor %s takes %d bytes, but %d follow", tensor.name, bytes,
                                   reader_.left()));
    }
    tensor.data = *data;
    model_.tensors.push_back(tensor);
  }
  return absl::OkStatus();
}

absl::StatusOr<Llama2cContents> FileReader::Read() {
  YANGTUO_RETURN_IF_ERROR(ReadSizes());
  const std::int64_t hidden = model_.hidden;
  const std::int64_t ffn = model_.ffn;
  const std::int64_t kv = hidden / model_.heads * model_.kv_heads;
  const std::int32_t layers = model_.layers;
  YANGTUO_RETURN_IF_ERROR(Take(0, "tok_embeddings.weight", {model_.vocab, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "attention_norm.weight", {hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "attention.wq.weight", {hidden, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "attention.wk.weight", {kv, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "attention.wv.weight", {kv, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "attention.wo.weight", {hidden, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "ffn_norm.weight", {hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "feed_forward.w1.weight", {ffn, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "feed_forward.w2.weight", {hidden, ffn}));
  YANGTUO_RETURN_IF_ERROR(Take(layers, "feed_forward.w3.weight", {ffn, hidden}));
  YANGTUO_RETURN_IF_ERROR(Take(0, "norm.weight", {hidden}));
  // Tables of cosines and sines, which nobody reads any more.
  const std::uint64_t tables = std::uint64_t{2} * sizeof(float) *
                               static_cast<std::uint64_t>(model_.context_tokens) *
                               static_cast<std::uint64_t>(hidden / model_.heads / 2);
  if (!reader_.TakeBytes(tables).has_value()) {
    return Fault(
        absl::StrFormat("the rotary tables take %d bytes, but %d follow", tables, reader_.left()));
  }
  if (!model_.tied_embeddings) {
    YANGTUO_RETURN_IF_ERROR(Take(0, "output.weight", {model_.vocab, hidden}));
  }
  if (reader_.left() != 0) {
    return Fault(absl::StrFormat("%d bytes follow the last tensor", reader_.left()));
  }
  return std::move(model_);
}

}  // namespace

absl::StatusOr<Llama2cContents> ParseLlama2c(std::span<const std::byte> bytes,
                                             const std::filesystem::path& file) {
  return FileReader(bytes, file).Read();
}

struct Llama2cFile::State {
  std::filesystem::path path;
  MappedFile mapping;
  Llama2cContents contents;
};

Llama2cFile::Llama2cFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}

absl::StatusOr<Llama2cFile> Llama2cFile::Open(const std::filesystem::path& file) {
  YANGTUO_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(file));
  const auto state =
      std::make_shared<State>(State{.path = file, .mapping = std::move(mapping), .contents = {}});
  YANGTUO_ASSIGN_OR_RETURN(state->contents, ParseLlama2c(state->mapping.bytes(), state->path));
  return Llama2cFile(state);
}

const Llama2cContents& Llama2cFile::contents() const { return state_->contents; }

}  // namespace yangtuo
