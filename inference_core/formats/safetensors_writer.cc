#include "inference_core/formats/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/formats/tensor_places.h"

namespace yangtuo {
namespace {

using nlohmann::json;

std::string_view FileNameOf(DType type) {
  return type == DType::kF32 ? "F32" : type == DType::kF16 ? "F16" : "BF16";
}

// A tensor's parts by their numbers among the places of the file.
struct SplitRows {
  std::vector<std::size_t> places;
  std::vector<std::size_t> row_bytes;  // of each part
};

class SafetensorsWriter final : public TensorFileWriter {
 public:
  SafetensorsWriter(OutputFile file, TensorPlaces places, std::vector<SplitRows> tensors)
      : file_(std::move(file)), places_(std::move(places)), tensors_(std::move(tensors)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override;

  absl::Status Finish() override {
    YANGTUO_RETURN_IF_ERROR(places_.CheckComplete());
    return file_.Commit();
  }

 private:
  absl::Status AppendPart(std::size_t place, std::span<const std::byte> rows) {
    YANGTUO_ASSIGN_OR_RETURN(const std::uint64_t offset, places_.Take(place, rows.size()));
    return file_.WriteAt(offset, rows);
  }

  OutputFile file_;
  TensorPlaces places_;
  std::vector<SplitRows> tensors_;
  std::vector<std::byte> part_;  // of the rows of one call
};

absl::Status SafetensorsWriter::Append(std::size_t index, std::span<const std::byte> rows) {
  if (index >= tensors_.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d tensors and no tensor number %d",
                                                      file_.target().string(), tensors_.size(),
                                                      index));
  }
  const SplitRows& tensor = tensors_[index];
  if (tensor.places.size() == 1) {
    return AppendPart(tensor.places[0], rows);
  }
  const std::size_t row_bytes =
      std::accumulate(tensor.row_bytes.begin(), tensor.row_bytes.end(), std::size_t{0});
  if (rows.size() % row_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: tensor %s: expected whole rows of %d bytes, found %d", file_.target().string(),
        Shown(places_.all()[tensor.places[0]].name), row_bytes, rows.size()));
  }
  std::size_t before = 0;
  for (std::size_t part = 0; part < tensor.places.size(); ++part) {
    const std::size_t size = tensor.row_bytes[part];
    part_.resize(rows.size() / row_bytes * size);
    for (std::size_t row = 0; row < rows.size() / row_bytes; ++row) {
      std::memcpy(part_.data() + row * size, rows.data() + row * row_bytes + before, size);
    }
    YANGTUO_RETURN_IF_ERROR(AppendPart(tensor.places[part], part_));
    before += size;
  }
  return absl::OkStatus();
}

// Length and header; padded so that the data begins at a multiple of 8, as the format asks.
std::string EncodeHeader(json header) {
  std::string text = header.dump();
  text.resize(RoundUp(text.size(), 8), ' ');
  const std::uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

}  // namespace

std::vector<TensorPart> SafetensorsPartsOf(const TensorSpec& tensor) {
  if (IsPlain(tensor.dtype)) {
    return {{.name = tensor.name,
             .type = FileNameOf(tensor.dtype),
             .shape = tensor.shape,
             .element_bytes = SizeOf(tensor.dtype),
             .row_bytes = tensor.row_bytes()}};
  }
  const auto with_columns = [&tensor](std::int64_t columns) {
    std::vector<std::int64_t> shape = tensor.shape;
    if (!shape.empty()) {
      shape.back() = columns;
    }
    return shape;
  };
  const std::vector<std::int64_t> rows = {tensor.rows()};
  const TensorPart scale = {.name = tensor.name + "_scale",
                            .type = "F32",
                            .shape = rows,
                            .element_bytes = 4,
                            .row_bytes = 4};
  if (tensor.dtype == DType::kInt8) {
    return {{.name = tensor.name,
             .type = "I8",
             .shape = tensor.shape,
             .element_bytes = 1,
             .row_bytes = tensor.cols()},
            scale};
  }
  if (tensor.dtype == DType::kInt4) {
    const std::int64_t groups = (tensor.cols() + kInt4Group - 1) / kInt4Group;
    return {{.name = tensor.name,
             .type = "U8",
             .shape = with_columns(groups * kInt4Group / 2),
             .element_bytes = 1,
             .row_bytes = groups * kInt4Group / 2},
            {.name = tensor.name + "_multiplier",
             .type = "I8",
             .shape = with_columns(groups),
             .element_bytes = 1,
             .row_bytes = groups},
            scale};
  }
  return {};
}

absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewSafetensorsWriter(
    const std::filesystem::path& target, const std::vector<TensorSpec>& tensors,
    const std::map<std::string, std::string>& metadata) {
  YANGTUO_RETURN_IF_ERROR(CheckSpecs(tensors, target));
  std::vector<TensorPart> parts;
  std::vector<std::uint64_t> num_rows;
  std::vector<SplitRows> split;
  for (const TensorSpec& tensor : tensors) {
    SplitRows& rows = split.emplace_back();
    for (TensorPart& part : SafetensorsPartsOf(tensor)) {
      rows.places.push_back(parts.size());
      rows.row_bytes.push_back(static_cast<std::size_t>(part.row_bytes));
      num_rows.push_back(static_cast<std::uint64_t>(tensor.rows()));
      parts.push_back(std::move(part));
    }
    if (rows.places.empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s: a safetensors file cannot hold %s; write GGUF",
                          target.string(), Shown(tensor.name), NameOf(tensor.dtype)));
    }
  }
  // Larger elements first: each offset is then a multiple of its element's size.
  std::vector<std::size_t> order(parts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&parts](std::size_t a, std::size_t b) {
    return parts[a].element_bytes > parts[b].element_bytes;
  });
  json header = {{"__metadata__", metadata}};
  header["__metadata__"]["format"] = "pt";
  std::vector<TensorPlaces::Place> places(parts.size());
  std::uint64_t end = 0;
  for (const std::size_t i : order) {
    const auto row_bytes = static_cast<std::uint64_t>(parts[i].row_bytes);
    places[i] = {.name = parts[i].name,
                 .offset = end,
                 .bytes = row_bytes * num_rows[i],
                 .row_bytes = row_bytes};
    end += places[i].bytes;
    if (header.contains(parts[i].name)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s is there twice", target.string(), Shown(parts[i].name)));
    }
    header[parts[i].name] = {{"dtype", parts[i].type},
                             {"shape", parts[i].shape},
                             {"data_offsets", {places[i].offset, end}}};
  }
  const std::string head = EncodeHeader(std::move(header));
  TensorPlaces all(target);
  for (TensorPlaces::Place& place : places) {
    place.offset += head.size();
    all.Add(std::move(place));
  }
  YANGTUO_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(target));
  YANGTUO_RETURN_IF_ERROR(file.Reserve(head.size() + end));
  YANGTUO_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(head))));
  return std::make_unique<SafetensorsWriter>(std::move(file), std::move(all), std::move(split));
}

}  // namespace yangtuo
