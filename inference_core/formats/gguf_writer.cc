#include "inference_core/formats/gguf_writer.h"

#include <algorithm>
#include <concepts>
#include <cstring>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "absl/strings/str_format.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/formats/tensor_places.h"

namespace yangtuo {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 32;
constexpr std::size_t kLongestTensorName = 63;  // GGML_MAX_NAME with its ending zero
constexpr std::size_t kMostAxes = 4;

template <typename T>
std::string Raw(T value) {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

template <typename T>
std::string RawAll(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::string EncodeText(std::string_view text) {
  std::string bytes = Raw(std::uint64_t{text.size()});
  bytes.append(text);
  return bytes;
}

std::string EncodeArray(GgufType type, std::uint64_t count, std::string_view elements) {
  std::string bytes = Raw(GgufType::kArray) + Raw(type) + Raw(count);
  bytes.append(elements);
  return bytes;
}

class GgufWriter final : public TensorFileWriter {
 public:
  GgufWriter(OutputFile file, TensorPlaces places)
      : file_(std::move(file)), places_(std::move(places)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override {
    YANGTUO_ASSIGN_OR_RETURN(const std::uint64_t offset, places_.Take(index, rows.size()));
    return file_.WriteAt(offset, rows);
  }

  absl::Status Finish() override {
    YANGTUO_RETURN_IF_ERROR(places_.CheckComplete());
    return file_.Commit();
  }

 private:
  OutputFile file_;
  TensorPlaces places_;
};

absl::Status CheckTensor(const TensorSpec& tensor, const std::filesystem::path& target) {
  const auto fault = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor %s: %s", target.string(), Shown(tensor.name), what));
  };
  if (!GgufNumberOf(tensor.dtype).has_value()) {
    return fault(absl::StrFormat("GGUF has no type %s", NameOf(tensor.dtype)));
  }
  if (tensor.name.size() > kLongestTensorName) {
    return fault(absl::StrFormat("GGUF names have at most %d bytes", kLongestTensorName));
  }
  if (tensor.shape.size() > kMostAxes) {
    return fault(absl::StrFormat("GGUF tensors have at most %d axes", kMostAxes));
  }
  return absl::OkStatus();
}

}  // namespace

void GgufKeyValues::SetUint32(const std::string& key, std::uint32_t value) {
  Set(key, Raw(GgufType::kUint32) + Raw(value));
}

void GgufKeyValues::SetUint64(const std::string& key, std::uint64_t value) {
  Set(key, Raw(GgufType::kUint64) + Raw(value));
}

void GgufKeyValues::SetFloat32(const std::string& key, float value) {
  Set(key, Raw(GgufType::kFloat32) + Raw(value));
}

void GgufKeyValues::SetBool(const std::string& key, bool value) {
  Set(key, Raw(GgufType::kBool) + Raw(static_cast<std::uint8_t>(value ? 1 : 0)));
}

void GgufKeyValues::SetText(const std::string& key, std::string_view value) {
  Set(key, Raw(GgufType::kString) + EncodeText(value));
}

void GgufKeyValues::SetTexts(const std::string& key, std::span<const std::string> values) {
  std::string elements;
  for (const std::string& value : values) {
    elements += EncodeText(value);
  }
  Set(key, EncodeArray(GgufType::kString, values.size(), elements));
}

void GgufKeyValues::SetReals(const std::string& key, std::span<const float> values) {
  Set(key, EncodeArray(GgufType::kFloat32, values.size(), RawAll(values)));
}

void GgufKeyValues::SetWholes(const std::string& key, std::span<const std::int32_t> values) {
  Set(key, EncodeArray(GgufType::kInt32, values.size(), RawAll(values)));
}

void GgufKeyValues::SetValue(const std::string& key, const GgufValue& value) {
  const std::string_view bytes(reinterpret_cast<const char*>(value.bytes.data()),
                               value.bytes.size());
  switch (value.type) {
    case GgufType::kArray:
      return Set(key, EncodeArray(value.element_type, value.count, bytes));
    case GgufType::kString:
      return SetText(key, bytes);
    default:
      return Set(key, Raw(value.type).append(bytes));
  }
}

void GgufKeyValues::Set(const std::string& key, std::string encoded) {
  if (key == "general.alignment") {
    return;
  }
  const auto there = std::find_if(entries_.begin(), entries_.end(),
                                  [&key](const auto& entry) { return entry.first == key; });
  if (there == entries_.end()) {
    entries_.emplace_back(key, std::move(encoded));
  } else {
    there->second = std::move(encoded);
  }
}

std::string GgufKeyValues::Encode() const {
  std::string bytes;
  for (const auto& [key, encoded] : entries_) {
    bytes += EncodeText(key) + encoded;
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewGgufWriter(
    const std::filesystem::path& target, const GgufKeyValues& keys,
    const std::vector<TensorSpec>& tensors) {
  YANGTUO_RETURN_IF_ERROR(CheckSpecs(tensors, target));
  std::string head = "GGUF" + Raw(kVersion) + Raw(std::uint64_t{tensors.size()}) +
                     Raw(keys.size()) + keys.Encode();
  std::vector<std::uint64_t> offsets;  // in the data
  std::uint64_t end = 0;
  for (const TensorSpec& tensor : tensors) {
    YANGTUO_RETURN_IF_ERROR(CheckTensor(tensor, target));
    head += EncodeText(tensor.name) + Raw(static_cast<std::uint32_t>(tensor.shape.size()));
    // The file has the innermost size first.
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      head += Raw(static_cast<std::uint64_t>(*size));
    }
    head += Raw(*GgufNumberOf(tensor.dtype)) + Raw(end);
    offsets.push_back(end);
    end = RoundUp(end + static_cast<std::uint64_t>(tensor.bytes()), kAlignment);
  }
  const std::uint64_t data = RoundUp(head.size(), kAlignment);
  TensorPlaces places(target);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    places.Add({.name = tensors[i].name,
                .offset = data + offsets[i],
                .bytes = static_cast<std::uint64_t>(tensors[i].bytes()),
                .row_bytes = static_cast<std::uint64_t>(tensors[i].row_bytes())});
  }
  YANGTUO_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(target));
  YANGTUO_RETURN_IF_ERROR(file.Reserve(data + end));
  YANGTUO_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(head))));
  return std::make_unique<GgufWriter>(std::move(file), std::move(places));
}

}  // namespace yangtuo
