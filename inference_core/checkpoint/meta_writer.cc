#include "inference_core/checkpoint/meta_writer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/open_meta.h"
#include "inference_core/checkpoint/row_order.h"
#include "inference_core/formats/torch_writer.h"

namespace yangtuo {
namespace {

// One tensor on its way into the shards.
struct Route {
  MetaSplit split = MetaSplit::kRows;
  std::int64_t row_bytes = 0;
  std::vector<std::int64_t> share;  // rows or bytes of a row that each shard takes
  std::optional<HeadInterleaver> interleaver;
  std::int64_t rows_done = 0;
  bool is_tied_head = false;  // written a second time, as the head
};

class MetaSink final : public TensorSink {
 public:
  MetaSink(std::vector<Route> routes, std::vector<std::unique_ptr<TensorFileWriter>> shards)
      : routes_(std::move(routes)), shards_(std::move(shards)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override {
    Route& route = routes_[index];
    if (route.interleaver.has_value()) {
      rows = route.interleaver->Take(rows);
    }
    YANGTUO_RETURN_IF_ERROR(AppendTo(index, route, rows));
    return route.is_tied_head ? AppendTo(routes_.size() - 1, routes_.back(), rows)
                              : absl::OkStatus();
  }

  absl::Status Finish() override {
    for (const auto& shard : shards_) {
      YANGTUO_RETURN_IF_ERROR(shard->Finish());
    }
    return absl::OkStatus();
  }

 private:
  absl::Status AppendTo(std::size_t index, Route& route, std::span<const std::byte> rows) {
    switch (route.split) {
      case MetaSplit::kRows:
        return AppendByRows(index, route, rows);
      case MetaSplit::kColumns:
        return AppendByColumns(index, route, rows);
      case MetaSplit::kCopies:
        for (const auto& shard : shards_) {
          YANGTUO_RETURN_IF_ERROR(shard->Append(index, rows));
        }
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  absl::Status AppendByRows(std::size_t index, Route& route, std::span<const std::byte> rows) {
    std::int64_t shard_begin = 0;
    for (std::size_t i = 0; i < shards_.size() && !rows.empty(); ++i) {
      const std::int64_t shard_end = shard_begin + route.share[i];
      const std::int64_t left = static_cast<std::int64_t>(rows.size()) / route.row_bytes;
      const std::int64_t count = std::clamp<std::int64_t>(shard_end - route.rows_done, 0, left);
      const auto bytes = static_cast<std::size_t>(count * route.row_bytes);
      if (count > 0) {
        YANGTUO_RETURN_IF_ERROR(shards_[i]->Append(index, rows.first(bytes)));
      }
      rows = rows.subspan(bytes);
      route.rows_done += count;
      shard_begin = shard_end;
    }
    return absl::OkStatus();
  }

  absl::Status AppendByColumns(std::size_t index, const Route& route,
                               std::span<const std::byte> rows) {
    const std::size_t count = rows.size() / static_cast<std::size_t>(route.row_bytes);
    std::size_t column = 0;
    std::vector<std::byte> part;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      const auto width = static_cast<std::size_t>(route.share[i]);
      part.resize(count * width);
      for (std::size_t row = 0; row < count; ++row) {
        const auto from =
            rows.subspan(row * static_cast<std::size_t>(route.row_bytes) + column, width);
        std::copy(from.begin(), from.end(),
                  part.begin() + static_cast<std::ptrdiff_t>(row * width));
      }
      YANGTUO_RETURN_IF_ERROR(shards_[i]->Append(index, part));
      column += width;
    }
    return absl::OkStatus();
  }

  std::vector<Route> routes_;
  std::vector<std::unique_ptr<TensorFileWriter>> shards_;
};

// Equal whole parts; what is left over goes to the last.
std::vector<std::int64_t> Shares(std::int64_t size, std::int32_t shards) {
  std::vector<std::int64_t> shares(static_cast<std::size_t>(shards), size / shards);
  shares.back() += size % shards;
  return shares;
}

// A tensor's route, and its place in each shard's file.
Route Divide(const LlamaTensor& tensor, const TensorSpec& spec, const OutputModel& model,
             std::vector<std::vector<TensorSpec>>& files) {
  Route route{.split = MetaSplitOf(tensor.part),
              .row_bytes = spec.row_bytes(),
              .share = {},
              .interleaver = std::nullopt,
              .rows_done = 0,
              .is_tied_head = model.config.tied_embeddings && tensor.part == LlamaPart::kEmbedding};
  if (IsRotary(tensor.part)) {
    route.interleaver.emplace(model.config.head_dim, spec.row_bytes());
  }
  const std::size_t axis = route.split == MetaSplit::kColumns ? 1 : 0;
  const std::vector<std::int64_t> sizes = Shares(spec.shape[axis], model.meta_shards);
  for (std::size_t i = 0; i < files.size(); ++i) {
    TensorSpec part{.name = MetaName(tensor), .dtype = spec.dtype, .shape = spec.shape};
    if (route.split != MetaSplit::kCopies) {
      part.shape[axis] = sizes[i];
    }
    files[i].push_back(std::move(part));
    route.share.push_back(axis == 1 ? sizes[i] * SizeOf(spec.dtype) : sizes[i]);
  }
  return route;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSink>> NewMetaSink(const OutputModel& model,
                                                        const std::filesystem::path& folder) {
  const std::vector<LlamaTensor> tensors = ListLlamaTensors(model.config);
  std::vector<std::vector<TensorSpec>> files(static_cast<std::size_t>(model.meta_shards));
  std::vector<Route> routes;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    routes.push_back(Divide(tensors[i], model.tensors[i], model, files));
  }
  if (model.config.tied_embeddings) {
    const LlamaTensor head{
        .part = LlamaPart::kHead, .layer = 0, .shape = model.tensors.front().shape};
    routes.push_back(Divide(head, model.tensors.front(), model, files));
  }
  std::vector<std::unique_ptr<TensorFileWriter>> shards;
  for (std::size_t i = 0; i < files.size(); ++i) {
    YANGTUO_ASSIGN_OR_RETURN(
        std::unique_ptr<TensorFileWriter> shard,
        NewTorchWriter(folder / absl::StrFormat("consolidated.%02d.pth", i), files[i]));
    shards.push_back(std::move(shard));
  }
  return std::make_unique<MetaSink>(std::move(routes), std::move(shards));
}

}  // namespace yangtuo
