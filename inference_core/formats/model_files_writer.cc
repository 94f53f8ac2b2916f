#include <functional>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/safetensors_writer.h"
#include "inference_core/formats/tensor_file_writer.h"
#include "inference_core/formats/torch_writer.h"
#include "inference_core/formats/weight_index.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// How a folder spells the files of one kind.
struct Layout {
  std::string_view stem;
  std::string_view extension;
};

// The tensors of each file, in order: as many as fit, at least one.
std::vector<std::vector<TensorSpec>> Divide(const std::vector<TensorSpec>& tensors,
                                            std::uint64_t max_shard_bytes) {
  std::vector<std::vector<TensorSpec>> shards(1);
  std::uint64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    const auto size = static_cast<std::uint64_t>(tensor.bytes());
    if (!shards.back().empty() && (bytes > max_shard_bytes || size > max_shard_bytes - bytes)) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += size;
  }
  return shards;
}

// Several files that become one model.
class ShardedWriter final : public TensorFileWriter {
 public:
  using Shards = std::vector<std::unique_ptr<TensorFileWriter>>;
  // The shard and the number there of each tensor.
  using Places = std::vector<std::pair<std::size_t, std::size_t>>;

  ShardedWriter(Shards shards, Places places, OutputFile index)
      : shards_(std::move(shards)), places_(std::move(places)), index_(std::move(index)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override {
    if (index >= places_.size()) {
      return absl::InvalidArgumentError(absl::StrFormat("%s has %d tensors and no tensor number %d",
                                                        index_.target().parent_path().string(),
                                                        places_.size(), index));
    }
    const auto [shard, place] = places_[index];
    return shards_[shard]->Append(place, rows);
  }

  // The index last: without it no reader takes the shards for a model.
  absl::Status Finish() override {
    for (const auto& shard : shards_) {
      YANGTUO_RETURN_IF_ERROR(shard->Finish());
    }
    return index_.Commit();
  }

 private:
  Shards shards_;
  Places places_;
  OutputFile index_;
};

using NewWriter = std::function<absl::StatusOr<std::unique_ptr<TensorFileWriter>>(
    const fs::path&, const std::vector<TensorSpec>&)>;
using NamesOf = std::function<std::vector<std::string>(const TensorSpec&)>;

absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewModelWriter(
    const fs::path& folder, const Layout& layout,
    const std::vector<std::vector<TensorSpec>>& shards, const NewWriter& new_writer,
    const NamesOf& names_of) {
  if (shards.size() == 1) {
    return new_writer(folder / absl::StrFormat("%s%s", layout.stem, layout.extension), shards[0]);
  }
  ShardedWriter::Shards writers;
  ShardedWriter::Places places;
  WeightMap weight_map;
  std::uint64_t total_bytes = 0;
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    const std::string name = absl::StrFormat("%s-%05d-of-%05d%s", layout.stem, shard + 1,
                                             shards.size(), layout.extension);
    YANGTUO_ASSIGN_OR_RETURN(auto writer, new_writer(folder / name, shards[shard]));
    writers.push_back(std::move(writer));
    for (std::size_t i = 0; i < shards[shard].size(); ++i) {
      places.emplace_back(shard, i);
      total_bytes += static_cast<std::uint64_t>(shards[shard][i].bytes());
      for (const std::string& part : names_of(shards[shard][i])) {
        weight_map.emplace(part, name);
      }
    }
  }
  YANGTUO_ASSIGN_OR_RETURN(
      OutputFile index, OutputFile::Create(folder / absl::StrFormat("%s%s.index.json", layout.stem,
                                                                    layout.extension)));
  const std::string text = EncodeWeightIndex(weight_map, total_bytes);
  YANGTUO_RETURN_IF_ERROR(index.WriteAt(0, std::as_bytes(std::span(text))));
  return std::make_unique<ShardedWriter>(std::move(writers), std::move(places), std::move(index));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewSafetensorsModelWriter(
    const fs::path& folder, const std::vector<TensorSpec>& tensors,
    const ModelFilesOptions& options) {
  return NewModelWriter(
      folder, {.stem = "model", .extension = ".safetensors"},
      Divide(tensors, options.max_shard_bytes),
      [&options](const fs::path& target, const std::vector<TensorSpec>& shard) {
        return NewSafetensorsWriter(target, shard, options.metadata);
      },
      [](const TensorSpec& tensor) {
        std::vector<std::string> names;
        for (TensorPart& part : SafetensorsPartsOf(tensor)) {
          names.push_back(std::move(part.name));
        }
        return names;
      });
}

absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewTorchModelWriter(
    const fs::path& folder, const std::vector<TensorSpec>& tensors,
    const ModelFilesOptions& options) {
  return NewModelWriter(folder, {.stem = "pytorch_model", .extension = ".bin"},
                        Divide(tensors, options.max_shard_bytes), NewTorchWriter,
                        [](const TensorSpec& tensor) { return std::vector{tensor.name}; });
}

}  // namespace yangtuo
