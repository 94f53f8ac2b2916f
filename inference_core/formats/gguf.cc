#include "inference_core/formats/gguf.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/byte_reader.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kOldest = 2;
constexpr std::uint32_t kNewest = 3;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kLargestAlignment = std::uint64_t{1} << 20;
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::size_t kMostAxes = 4;  // GGML_MAX_DIMS
constexpr std::uint64_t kLongestName = 65535;
// Arrays of arrays; no program writes any.
constexpr int kDeepest = 4;

struct StoredType {
  std::uint32_t number = 0;
  std::string_view name;
  std::optional<DType> dtype;
};

// ggml.h's enum ggml_type. Numbers that are not here were taken back before anything was written
// with them.
constexpr std::array<StoredType, 34> kStoredTypes = {{
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", DType::kQ5_0},
    {7, "Q5_1", DType::kQ5_1},
    {8, "Q8_0", DType::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", DType::kQ2_K},
    {11, "Q3_K", DType::kQ3_K},
    {12, "Q4_K", DType::kQ4_K},
    {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
    {41, "Q1_0", {}},
}};

// A tensor's place, relative to the beginning of the data.
struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::size_t tensor = 0;
};

// Reads one file. Lives for one call.
class FileReader {
 public:
  FileReader(std::span<const std::byte> bytes, const std::filesystem::path& file)
      : bytes_(bytes),
        file_(file),
        reader_(bytes),
        contents_{.metadata = GgufMetadata(file.string())} {}

  absl::StatusOr<GgufContents> Read();

 private:
  [[nodiscard]] absl::Status Fault(const std::string& what) const {
    return absl::DataLossError(absl::StrFormat(
        "%s: offset %d: %s; the file is damaged or incomplete, fetch or write it again",
        file_.string(), reader_.offset(), what));
  }
  [[nodiscard]] absl::Status TensorFault(const std::string& tensor, const std::string& what) const {
    return Fault(absl::StrFormat("tensor %s: %s", Shown(tensor), what));
  }

  [[nodiscard]] absl::Status ReadHead();
  [[nodiscard]] absl::Status ReadMetadata();
  [[nodiscard]] absl::StatusOr<std::string> ReadName(std::string_view what);
  [[nodiscard]] absl::StatusOr<GgufType> ReadType(const std::string& key);
  [[nodiscard]] absl::StatusOr<GgufValue> ReadValue(const std::string& key, GgufType type,
                                                    int depth);
  [[nodiscard]] absl::StatusOr<GgufValue> ReadArray(const std::string& key, int depth);
  [[nodiscard]] absl::Status ReadAlignment();
  [[nodiscard]] absl::Status ReadTensor();
  [[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> ReadShape(const std::string& name);
  [[nodiscard]] absl::Status PlaceTensors();
  [[nodiscard]] absl::StatusOr<Range> PlaceTensor(std::size_t place,
                                                  std::uint64_t data_bytes) const;

  std::span<const std::byte> bytes_;
  const std::filesystem::path& file_;
  ByteReader reader_;
  GgufContents contents_;
  std::uint64_t num_tensors_ = 0;
  std::uint64_t num_keys_ = 0;
  std::vector<std::uint64_t> offsets_;  // of the tensors, in the data
};

absl::Status FileReader::ReadHead() {
  if (reader_.Take<std::uint32_t>() != kMagic) {
    return Fault("expected \"GGUF\" at the beginning of a GGUF file");
  }
  const auto version = reader_.Take<std::uint32_t>();
  if (version.has_value() && *version != 0 && (*version & 0xffffU) == 0) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s is a big-endian GGUF file; only little endian is read, convert it with llama.cpp's "
        "gguf_convert_endian.py",
        file_.string()));
  }
  if (version.has_value() && (*version < kOldest || *version > kNewest)) {
    return absl::UnimplementedError(
        absl::StrFormat("%s: GGUF version %d; versions %d to %d are read, convert the model again",
                        file_.string(), *version, kOldest, kNewest));
  }
  const auto tensors = reader_.Take<std::uint64_t>();
  const auto keys = reader_.Take<std::uint64_t>();
  if (!keys.has_value()) {
    return Fault("the file ends within its head");
  }
  contents_.version = *version;
  num_tensors_ = *tensors;
  num_keys_ = *keys;
  return absl::OkStatus();
}

absl::StatusOr<std::string> FileReader::ReadName(std::string_view what) {
  const auto length = reader_.Take<std::uint64_t>();
  const auto text =
      length.has_value() && *length <= kLongestName ? reader_.TakeText(*length) : std::nullopt;
  if (!text.has_value()) {
    return Fault(absl::StrFormat("expected the name of a %s of at most %d bytes, %s", what,
                                 kLongestName,
                                 length.has_value() ? absl::StrFormat("found %d", *length)
                                                    : std::string("but the file ends")));
  }
  std::string name(*text);
  if (!IsUtf8(name)) {
    return Fault(absl::StrFormat("the name of a %s is not UTF-8: %s", what, Shown(name)));
  }
  return name;
}

absl::StatusOr<GgufType> FileReader::ReadType(const std::string& key) {
  const auto type = reader_.Take<std::uint32_t>();
  if (!type.has_value() || *type > static_cast<std::uint32_t>(GgufType::kFloat64)) {
    return Fault(absl::StrFormat(
        "key %s: expected a type from 0 to 12, %s", Shown(key),
        type.has_value() ? absl::StrFormat("found %d", *type) : std::string("but the file ends")));
  }
  return static_cast<GgufType>(*type);
}

absl::StatusOr<GgufValue> FileReader::ReadValue(const std::string& key, GgufType type, int depth) {
  if (type == GgufType::kArray) {
    return ReadArray(key, depth);
  }
  std::optional<std::uint64_t> size = SizeOf(type);
  if (type == GgufType::kString) {
    size = reader_.Take<std::uint64_t>();
  }
  const auto bytes = size.has_value() ? reader_.TakeBytes(*size) : std::nullopt;
  if (!bytes.has_value()) {
    return Fault(absl::StrFormat("key %s: its value reaches beyond the file", Shown(key)));
  }
  return GgufValue{.type = type, .bytes = *bytes};
}

absl::StatusOr<GgufValue> FileReader::ReadArray(const std::string& key, int depth) {
  if (depth == kDeepest) {
    return Fault(absl::StrFormat("key %s: arrays nested more than %d deep", Shown(key), kDeepest));
  }
  GgufValue array = {.type = GgufType::kArray};
  YANGTUO_ASSIGN_OR_RETURN(array.element_type, ReadType(key));
  const auto count = reader_.Take<std::uint64_t>();
  const std::size_t size = SizeOf(array.element_type);
  // An element takes at least a byte, so a count beyond the file's end is seen before any work.
  if (!count.has_value() || *count > reader_.left() / std::max<std::size_t>(size, 1)) {
    return Fault(absl::StrFormat("key %s: its array reaches beyond the file", Shown(key)));
  }
  array.count = *count;
  const std::size_t begin = reader_.offset();
  if (size > 0) {
    static_cast<void>(reader_.TakeBytes(*count * size));
  } else {
    for (std::uint64_t i = 0; i < *count; ++i) {
      YANGTUO_RETURN_IF_ERROR(ReadValue(key, array.element_type, depth + 1).status());
    }
  }
  array.bytes = bytes_.subspan(begin, reader_.offset() - begin);
  return array;
}

absl::Status FileReader::ReadMetadata() {
  for (std::uint64_t i = 0; i < num_keys_; ++i) {
    YANGTUO_ASSIGN_OR_RETURN(const std::string key, ReadName("key"));
    YANGTUO_ASSIGN_OR_RETURN(const GgufType type, ReadType(key));
    YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, ReadValue(key, type, 0));
    if (!contents_.metadata.Add(key, value)) {
      return Fault(absl::StrFormat("key %s is there twice", Shown(key)));
    }
  }
  return absl::OkStatus();
}

absl::Status FileReader::ReadAlignment() {
  const absl::StatusOr<std::int64_t> alignment =
      contents_.metadata.Whole(kAlignmentKey, kDefaultAlignment);
  const auto size = static_cast<std::uint64_t>(alignment.value_or(0));
  if (size == 0 || size > kLargestAlignment || (size & (size - 1)) != 0) {
    return Fault(absl::StrFormat("key \"%s\": expected a power of 2 up to %d, found %s",
                                 kAlignmentKey, kLargestAlignment,
                                 Shown(*contents_.metadata.Find(kAlignmentKey))));
  }
  contents_.alignment = size;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int64_t>> FileReader::ReadShape(const std::string& name) {
  const auto axes = reader_.Take<std::uint32_t>();
  if (!axes.has_value() || *axes > kMostAxes) {
    return TensorFault(name, absl::StrFormat("expected at most %d axes", kMostAxes));
  }
  std::vector<std::int64_t> shape;
  std::int64_t elements = 1;
  for (std::uint32_t axis = 0; axis < *axes; ++axis) {
    const auto size = reader_.Take<std::int64_t>();
    if (!size.has_value() || *size < 0 ||
        (*size != 0 &&
         (__builtin_mul_overflow(elements, *size, &elements) || elements > kMostElements))) {
      return TensorFault(name, "expected sizes whose product is at most 2^56");
    }
    shape.push_back(*size);
  }
  std::reverse(shape.begin(), shape.end());  // the file has the innermost first
  return shape;
}

absl::Status FileReader::ReadTensor() {
  StoredTensor tensor;
  tensor.file = &file_;
  YANGTUO_ASSIGN_OR_RETURN(tensor.name, ReadName("tensor"));
  YANGTUO_ASSIGN_OR_RETURN(tensor.shape, ReadShape(tensor.name));
  const auto number = reader_.Take<std::uint32_t>();
  const auto offset = reader_.Take<std::uint64_t>();
  if (!offset.has_value()) {
    return TensorFault(tensor.name, "the file ends within its description");
  }
  if (*offset % contents_.alignment != 0) {
    return TensorFault(tensor.name, absl::StrFormat("data offset %d is no multiple of %d", *offset,
                                                    contents_.alignment));
  }
  const auto* const type =
      std::find_if(kStoredTypes.begin(), kStoredTypes.end(),
                   [&number](const StoredType& t) { return t.number == *number; });
  if (type == kStoredTypes.end()) {
    tensor.unsupported_type = absl::StrFormat("type %d", *number);
  } else if (!type->dtype.has_value()) {
    tensor.unsupported_type = type->name;
  } else {
    tensor.dtype = *type->dtype;
    if (!RowFits(tensor.dtype, tensor.cols())) {
      return TensorFault(tensor.name, absl::StrFormat("rows of %d elements do not divide into "
                                                      "blocks of %s",
                                                      tensor.cols(), type->name));
    }
  }
  contents_.tensors.push_back(std::move(tensor));
  offsets_.push_back(*offset);
  return absl::OkStatus();
}

absl::StatusOr<Range> FileReader::PlaceTensor(std::size_t place, std::uint64_t data_bytes) const {
  const StoredTensor& tensor = contents_.tensors[place];
  const DTypeLayout layout = LayoutOf(tensor.dtype);
  std::uint64_t bytes = 0;
  const bool overflow =
      tensor.unsupported_type.empty() &&
      __builtin_mul_overflow(
          static_cast<std::uint64_t>(tensor.rows() * (tensor.cols() / layout.elements)),
          static_cast<std::uint64_t>(layout.bytes), &bytes);
  const std::uint64_t offset = offsets_[place];
  if (overflow || offset > data_bytes || bytes > data_bytes - offset) {
    return TensorFault(tensor.name,
                       absl::StrFormat("shape %s at data offset %d reaches beyond the %d bytes of "
                                       "data",
                                       Shown(nlohmann::json(tensor.shape)), offset, data_bytes));
  }
  return Range{.begin = offset, .end = offset + bytes, .tensor = place};
}

absl::Status FileReader::PlaceTensors() {
  const std::uint64_t padding =
      (contents_.alignment - reader_.offset() % contents_.alignment) % contents_.alignment;
  contents_.header = bytes_.first(reader_.offset());
  // A file without tensors may end before the padding.
  const auto data =
      bytes_.subspan(reader_.offset() +
                     static_cast<std::size_t>(std::min<std::uint64_t>(padding, reader_.left())));
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < contents_.tensors.size(); ++i) {
    YANGTUO_ASSIGN_OR_RETURN(const Range range, PlaceTensor(i, data.size()));
    contents_.tensors[i].data = data.subspan(static_cast<std::size_t>(range.begin),
                                             static_cast<std::size_t>(range.end - range.begin));
    ranges.push_back(range);
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin < ranges[i - 1].end) {
      return TensorFault(
          contents_.tensors[ranges[i].tensor].name,
          absl::StrFormat("its data at %d overlaps that of tensor %s", ranges[i].begin,
                          Shown(nlohmann::json(contents_.tensors[ranges[i - 1].tensor].name))));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufContents> FileReader::Read() {
  YANGTUO_RETURN_IF_ERROR(ReadHead());
  YANGTUO_RETURN_IF_ERROR(ReadMetadata());
  YANGTUO_RETURN_IF_ERROR(ReadAlignment());
  for (std::uint64_t i = 0; i < num_tensors_; ++i) {
    YANGTUO_RETURN_IF_ERROR(ReadTensor());
  }
  std::map<std::string_view, int> names;
  for (const StoredTensor& tensor : contents_.tensors) {
    if (++names[tensor.name] > 1) {
      return TensorFault(tensor.name, "it is there twice");
    }
  }
  YANGTUO_RETURN_IF_ERROR(PlaceTensors());
  return std::move(contents_);
}

}  // namespace

absl::StatusOr<GgufContents> ParseGguf(std::span<const std::byte> bytes,
                                       const std::filesystem::path& file) {
  return FileReader(bytes, file).Read();
}

std::optional<std::uint32_t> GgufNumberOf(DType type) {
  const auto* const found = std::find_if(kStoredTypes.begin(), kStoredTypes.end(),
                                         [type](const StoredType& t) { return t.dtype == type; });
  return found == kStoredTypes.end() ? std::nullopt : std::optional(found->number);
}

struct GgufFile::State {
  std::filesystem::path path;
  MappedFile mapping;
  GgufContents contents;
  std::map<std::string_view, std::size_t> places;
};

GgufFile::GgufFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}

absl::StatusOr<GgufFile> GgufFile::Open(const std::filesystem::path& file) {
  YANGTUO_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(file));
  const auto state = std::make_shared<State>(State{.path = file,
                                                   .mapping = std::move(mapping),
                                                   .contents = {.metadata = GgufMetadata("")},
                                                   .places = {}});
  YANGTUO_ASSIGN_OR_RETURN(state->contents, ParseGguf(state->mapping.bytes(), state->path));
  for (std::size_t i = 0; i < state->contents.tensors.size(); ++i) {
    state->places.emplace(state->contents.tensors[i].name, i);
  }
  return GgufFile(state);
}

std::uint32_t GgufFile::version() const { return state_->contents.version; }
const GgufMetadata& GgufFile::metadata() const { return state_->contents.metadata; }
const std::vector<StoredTensor>& GgufFile::tensors() const { return state_->contents.tensors; }
const std::filesystem::path& GgufFile::path() const { return state_->path; }
std::uint64_t GgufFile::file_bytes() const { return state_->mapping.bytes().size(); }

const StoredTensor* GgufFile::FindStored(std::string_view name) const {
  const auto found = state_->places.find(name);
  return found == state_->places.end() ? nullptr : &tensors()[found->second];
}

std::string GgufFile::WeakDigest(std::string_view canonical_config) const {
  Sha256 digest;
  const auto add = [&digest](std::span<const std::byte> part) {
    // The length first, so that moving a byte from one part to the next changes the digest.
    const std::uint64_t size = part.size();
    digest.Update(std::as_bytes(std::span(&size, 1)));
    digest.Update(part);
  };
  const std::uint64_t size = file_bytes();
  add(std::as_bytes(std::span(canonical_config)));
  add(state_->contents.header);
  add(std::as_bytes(std::span(&size, 1)));
  return digest.FinishHex();
}

}  // namespace yangtuo
