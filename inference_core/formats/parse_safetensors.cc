#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/safetensors.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little,
              "tensors are used as they lie in the file");

constexpr std::size_t kLengthBytes = 8;
// The reference reader's limit.
constexpr std::uint64_t kLongestHeader = 100'000'000;
constexpr std::uint64_t kLargestSize = std::numeric_limits<std::int64_t>::max();

struct ElementType {
  std::string_view name;
  std::uint64_t bytes = 0;
  std::optional<DType> dtype;
};

constexpr std::array<ElementType, 15> kElementTypes = {{
    {"F32", 4, DType::kF32},
    {"F16", 2, DType::kF16},
    {"BF16", 2, DType::kBF16},
    {"F64", 8, {}},
    {"I64", 8, {}},
    {"U64", 8, {}},
    {"I32", 4, {}},
    {"U32", 4, {}},
    {"I16", 2, {}},
    {"U16", 2, {}},
    {"I8", 1, {}},
    {"U8", 1, {}},
    {"BOOL", 1, {}},
    {"F8_E4M3", 1, {}},
    {"F8_E5M2", 1, {}},
}};

// Byte range of a tensor, relative to the end of the header.
struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Checks one file's header against its size. Lives for one call.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> bytes, const std::filesystem::path& file)
      : bytes_(bytes), file_(file) {}

  absl::StatusOr<SafetensorsContents> Read();

 private:
  [[nodiscard]] absl::Status Fault(const std::string& what) const {
    return absl::DataLossError(
        absl::StrFormat("%s: %s; the file is damaged or incomplete, fetch or write it again",
                        file_.string(), what));
  }
  [[nodiscard]] absl::Status Fault(const std::string& tensor, const std::string& what) const {
    return Fault(absl::StrFormat("tensor %s: %s", Shown(tensor), what));
  }

  absl::StatusOr<std::string_view> HeaderText();
  [[nodiscard]] absl::Status ReadMetadata(const json& metadata,
                                          std::map<std::string, std::string>& texts) const;
  [[nodiscard]] absl::StatusOr<StoredTensor> ReadTensor(const std::string& name, const json& entry);
  [[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> ReadShape(const std::string& name,
                                                                    const json& entry) const;
  [[nodiscard]] absl::StatusOr<Range> ReadRange(const std::string& name, const json& entry) const;
  [[nodiscard]] absl::Status CheckType(const StoredTensor& tensor, const ElementType& type,
                                       Range range) const;
  [[nodiscard]] absl::Status CheckCover();

  std::span<const std::byte> bytes_;
  const std::filesystem::path& file_;
  std::span<const std::byte> data_;  // what follows the header
  std::vector<std::pair<Range, std::string>> ranges_;
};

absl::StatusOr<std::string_view> HeaderReader::HeaderText() {
  if (bytes_.size() < kLengthBytes) {
    return Fault(
        absl::StrFormat("expected at least %d bytes, found %d", kLengthBytes, bytes_.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes_.data(), kLengthBytes);
  const std::uint64_t rest = bytes_.size() - kLengthBytes;
  if (length > rest || length > kLongestHeader) {
    return Fault(absl::StrFormat(
        "the header at offset 8 claims %d bytes, but %d follow and %d is the longest allowed",
        length, rest, kLongestHeader));
  }
  data_ = bytes_.subspan(kLengthBytes + length);
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') {
    return Fault("the header at offset 8 does not begin with '{': not a safetensors file");
  }
  return text;
}

absl::Status HeaderReader::ReadMetadata(const json& metadata,
                                        std::map<std::string, std::string>& texts) const {
  const bool valid =
      metadata.is_object() && std::all_of(metadata.begin(), metadata.end(),
                                          [](const json& value) { return value.is_string(); });
  if (!valid) {
    return Fault(
        absl::StrFormat("__metadata__: expected an object of strings, found %s", Shown(metadata)));
  }
  for (const auto& item : metadata.items()) {
    texts.emplace(item.key(), item.value().get<std::string>());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int64_t>> HeaderReader::ReadShape(const std::string& name,
                                                                  const json& entry) const {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) {
    return Fault(name, "expected \"shape\" to be a list of sizes");
  }
  std::vector<std::int64_t> dims;
  dims.reserve(shape->size());
  std::int64_t elements = 1;
  for (const json& size : *shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > kLargestSize) {
      return Fault(name, absl::StrFormat("shape %s: expected whole numbers from 0 to 2^63 - 1",
                                         Shown(*shape)));
    }
    dims.push_back(size.get<std::int64_t>());
    if (dims.back() != 0 &&
        (__builtin_mul_overflow(elements, dims.back(), &elements) || elements > kMostElements)) {
      return Fault(name, absl::StrFormat("shape %s: more than 2^56 elements", Shown(*shape)));
    }
  }
  return dims;
}

absl::StatusOr<Range> HeaderReader::ReadRange(const std::string& name, const json& entry) const {
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
    return Fault(name,
                 absl::StrFormat("data_offsets: expected two whole numbers of at least 0, found %s",
                                 offsets == entry.end() ? "nothing" : Shown(*offsets)));
  }
  const Range range = {.begin = (*offsets)[0].get<std::uint64_t>(),
                       .end = (*offsets)[1].get<std::uint64_t>()};
  if (range.begin > range.end || range.end > data_.size()) {
    return Fault(name, absl::StrFormat("data_offsets [%d, %d]: expected an ascending range within "
                                       "the %d bytes that follow the header",
                                       range.begin, range.end, data_.size()));
  }
  return range;
}

absl::Status HeaderReader::CheckType(const StoredTensor& tensor, const ElementType& type,
                                     Range range) const {
  std::uint64_t expected = type.bytes;
  for (const std::int64_t size : tensor.shape) {
    expected *= static_cast<std::uint64_t>(size);
  }
  if (expected != range.end - range.begin) {
    return Fault(tensor.name,
                 absl::StrFormat("data_offsets [%d, %d] hold %d bytes, but shape %s of %s takes %d",
                                 range.begin, range.end, range.end - range.begin,
                                 Shown(tensor.shape), type.name, expected));
  }
  if (range.begin % type.bytes != 0) {
    return Fault(tensor.name,
                 absl::StrFormat("data offset %d is not a multiple of the %d bytes of %s",
                                 range.begin, type.bytes, type.name));
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredTensor> HeaderReader::ReadTensor(const std::string& name, const json& entry) {
  if (!entry.is_object()) {
    return Fault(name, absl::StrFormat("expected an object, found %s", Shown(entry)));
  }
  const auto type_name = entry.find("dtype");
  if (type_name == entry.end() || !type_name->is_string()) {
    return Fault(name, "expected \"dtype\" to be the name of an element type");
  }
  StoredTensor tensor;
  tensor.name = name;
  tensor.file = &file_;
  YANGTUO_ASSIGN_OR_RETURN(tensor.shape, ReadShape(name, entry));
  YANGTUO_ASSIGN_OR_RETURN(const Range range, ReadRange(name, entry));
  const auto& wanted = type_name->get_ref<const std::string&>();
  const auto* const type =
      std::find_if(kElementTypes.begin(), kElementTypes.end(),
                   [&wanted](const ElementType& t) { return t.name == wanted; });
  if (type != kElementTypes.end()) {
    YANGTUO_RETURN_IF_ERROR(CheckType(tensor, *type, range));
  }
  if (type != kElementTypes.end() && type->dtype.has_value()) {
    tensor.dtype = *type->dtype;
  } else {
    tensor.unsupported_type = wanted;
  }
  tensor.data = data_.subspan(range.begin, range.end - range.begin);
  ranges_.emplace_back(range, name);
  return tensor;
}

// Format rule: the tensors cover the data without holes and without sharing a byte.
absl::Status HeaderReader::CheckCover() {
  std::sort(ranges_.begin(), ranges_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  std::uint64_t covered = 0;
  for (const auto& [range, name] : ranges_) {
    if (range.begin != covered) {
      return Fault(name,
                   absl::StrFormat(
                       "data_offsets [%d, %d] %s: offset %d was expected", range.begin, range.end,
                       range.begin < covered ? "overlap another tensor" : "leave a hole before it",
                       covered));
    }
    covered = range.end;
  }
  if (covered != data_.size()) {
    return Fault(
        absl::StrFormat("the tensors end at data offset %d, but %d bytes follow the header",
                        covered, data_.size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsContents> HeaderReader::Read() {
  YANGTUO_ASSIGN_OR_RETURN(const std::string_view text, HeaderText());
  const absl::StatusOr<json> header = ParseStrictJson(text);
  if (!header.ok()) {
    return Fault(absl::StrFormat("header at offset 8: %s", std::string(header.status().message())));
  }
  SafetensorsContents contents;
  contents.header = bytes_.first(kLengthBytes + text.size());
  for (const auto& item : header->items()) {
    if (item.key() == "__metadata__") {
      YANGTUO_RETURN_IF_ERROR(ReadMetadata(item.value(), contents.metadata));
      continue;
    }
    YANGTUO_ASSIGN_OR_RETURN(StoredTensor tensor, ReadTensor(item.key(), item.value()));
    contents.tensors.emplace(item.key(), std::move(tensor));
  }
  YANGTUO_RETURN_IF_ERROR(CheckCover());
  return contents;
}

}  // namespace

absl::StatusOr<SafetensorsContents> ReadSafetensors(std::span<const std::byte> bytes,
                                                    const std::filesystem::path& file) {
  return HeaderReader(bytes, file).Read();
}

absl::StatusOr<std::map<std::string, StoredTensor>> ParseSafetensors(
    std::span<const std::byte> bytes, const std::filesystem::path& file) {
  YANGTUO_ASSIGN_OR_RETURN(SafetensorsContents contents, ReadSafetensors(bytes, file));
  return std::move(contents.tensors);
}

}  // namespace yangtuo
