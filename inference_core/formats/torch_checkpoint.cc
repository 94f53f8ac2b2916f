#include "inference_core/formats/torch_checkpoint.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>
#include <zlib.h>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/pickle.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/formats/zip_archive.h"

namespace yangtuo {
namespace {

using Kind = PickleValue::Kind;
using Entries = std::map<std::string, ZipEntry, std::less<>>;

constexpr std::string_view kPickleName = "data.pkl";
constexpr std::string_view kRebuild = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildTyped = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";

// Dicts in dicts; a state dict inside a trainer's checkpoint is two.
constexpr int kDeepest = 8;
constexpr std::size_t kMostAxes = 8;
// A dict can hold another many times over, so what is listed is bounded and not only what is
// stored.
constexpr std::size_t kMostVisits = std::size_t{1} << 17;
constexpr std::size_t kLongestName = 1024;

struct ElementType {
  std::string_view storage;
  std::string_view dtype;
  std::string_view name;  // as safetensors spell it
  std::int64_t bytes = 0;
  std::optional<DType> type;
};

constexpr std::array<ElementType, 11> kElementTypes = {{
    {"torch.FloatStorage", "torch.float32", "F32", 4, DType::kF32},
    {"torch.HalfStorage", "torch.float16", "F16", 2, DType::kF16},
    {"torch.BFloat16Storage", "torch.bfloat16", "BF16", 2, DType::kBF16},
    {"torch.DoubleStorage", "torch.float64", "F64", 8, {}},
    {"torch.LongStorage", "torch.int64", "I64", 8, {}},
    {"torch.IntStorage", "torch.int32", "I32", 4, {}},
    {"torch.ShortStorage", "torch.int16", "I16", 2, {}},
    {"torch.CharStorage", "torch.int8", "I8", 1, {}},
    {"torch.ByteStorage", "torch.uint8", "U8", 1, {}},
    {"torch.BoolStorage", "torch.bool", "BOOL", 1, {}},
    {"torch.storage.UntypedStorage", "", "bytes", 1, {}},
}};

std::vector<std::string_view> AllowedGlobals() {
  std::vector<std::string_view> names = {"collections.OrderedDict", kRebuild, kRebuildTyped,
                                         kRebuildParameter};
  for (const ElementType& type : kElementTypes) {
    names.push_back(type.storage);
    if (!type.dtype.empty()) {
      names.push_back(type.dtype);
    }
  }
  return names;
}

// A storage: the raw elements that one or more tensors look at.
struct Storage {
  ElementType type;
  std::int64_t elements = 0;
  std::span<const std::byte> data;
};

bool IsRowMajor(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) {
      return false;
    }
    expected *= shape[axis];
  }
  return true;
}

// Reads one file. Lives for one call.
class CheckpointReader {
 public:
  CheckpointReader(std::span<const std::byte> bytes, const std::filesystem::path& file)
      : bytes_(bytes), file_(file) {}

  absl::StatusOr<TorchContents> Read();

 private:
  [[nodiscard]] absl::Status Fault(const std::string& what) const {
    return absl::DataLossError(
        absl::StrFormat("%s: %s; the file is damaged or incomplete, fetch or write it again",
                        file_.string(), what));
  }
  [[nodiscard]] absl::Status Fault(const std::string& tensor, const std::string& what) const {
    return Fault(absl::StrFormat("tensor %s: %s", Shown(tensor), what));
  }

  [[nodiscard]] absl::Status CheckKind() const;
  [[nodiscard]] absl::StatusOr<std::string> FindTop(const Entries& entries) const;
  [[nodiscard]] absl::Status ListDict(const PickleValue& dict, const std::string& prefix,
                                      int depth);
  // The arguments of the call that rebuilds a tensor; null for any other value.
  [[nodiscard]] const PickleValue* RebuildArguments(const PickleValue& value,
                                                    bool& typed_apart) const;
  [[nodiscard]] absl::StatusOr<StoredTensor> ReadTensor(const std::string& name,
                                                        const PickleValue& arguments,
                                                        bool typed_apart) const;
  [[nodiscard]] absl::StatusOr<Storage> ReadStorage(const std::string& name,
                                                    const PickleValue& id) const;
  [[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> ReadSizes(const std::string& name,
                                                                    const PickleValue& value) const;
  [[nodiscard]] absl::Status Place(const Storage& storage, std::int64_t offset,
                                   std::vector<std::int64_t> strides, StoredTensor& tensor) const;

  [[nodiscard]] const PickleValue& Item(const PickleValue& value, std::size_t i) const {
    return pickle_.at(value.items[i]);
  }

  std::span<const std::byte> bytes_;
  const std::filesystem::path& file_;
  std::string top_;  // "archive/"
  Entries entries_;
  Pickle pickle_;
  TorchContents contents_;
  std::size_t visits_ = 0;
};

// Says what a file is that is no zip archive.
absl::Status CheckpointReader::CheckKind() const {
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()),
                              std::min<std::size_t>(bytes_.size(), 64));
  if (text.starts_with("PK")) {
    return absl::OkStatus();
  }
  // A pickle of protocol 2 that begins with the magic number 0x1950a86a20f9469cfc6c.
  if (text.starts_with(
          std::string_view("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14))) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s was written by PyTorch before 1.6 or without its zip format; rewrite it: python3 -c "
        "\"import torch; torch.save(torch.load('OLD', map_location='cpu'), 'NEW')\"",
        file_.string()));
  }
  if (text.starts_with("version https://git-lfs")) {
    return Fault("it is the pointer that git-lfs leaves in place of a large file");
  }
  return Fault("offset 0: expected a zip archive, as torch.save writes it");
}

// Whatever folder the archive has at its top.
absl::StatusOr<std::string> CheckpointReader::FindTop(const Entries& entries) const {
  for (const auto& [name, entry] : entries) {
    const std::size_t slash = name.find('/');
    if (slash != std::string::npos && std::string_view(name).substr(slash + 1) == kPickleName) {
      return name.substr(0, slash + 1);
    }
  }
  return Fault("the archive has no FOLDER/data.pkl: not a file of torch.save");
}

absl::StatusOr<TorchContents> CheckpointReader::Read() {
  YANGTUO_RETURN_IF_ERROR(CheckKind());
  YANGTUO_ASSIGN_OR_RETURN(entries_, ParseZipArchive(bytes_, file_));
  YANGTUO_ASSIGN_OR_RETURN(top_, FindTop(entries_));
  const ZipEntry& program = entries_.find(top_ + std::string(kPickleName))->second;
  const auto* const data = reinterpret_cast<const Bytef*>(program.data.data());
  const uLong sum = crc32_z(crc32_z(0, nullptr, 0), data, program.data.size());
  if (sum != program.crc32) {
    return Fault(
        absl::StrFormat("%s at offset %d: CRC-32 %08x, but the directory says "
                        "%08x",
                        Shown(top_ + std::string(kPickleName)), program.data.data() - bytes_.data(),
                        sum, program.crc32));
  }
  static const std::vector<std::string_view> allowed = AllowedGlobals();
  absl::StatusOr<Pickle> pickle = ParsePickle(program.data, allowed);
  if (!pickle.ok()) {
    const std::string what =
        absl::StrFormat("%sdata.pkl, %s", Shown(top_), std::string(pickle.status().message()));
    return absl::IsUnimplemented(pickle.status())
               ? absl::UnimplementedError(absl::StrFormat("%s: %s", file_.string(), what))
               : Fault(what);
  }
  pickle_ = *std::move(pickle);
  contents_.header = program.data;
  if (pickle_.at(pickle_.root).kind != Kind::kDict) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: expected a dict of names and tensors; save the model's state_dict()", file_.string()));
  }
  YANGTUO_RETURN_IF_ERROR(ListDict(pickle_.at(pickle_.root), "", 0));
  return std::move(contents_);
}

absl::Status CheckpointReader::ListDict(const PickleValue& dict, const std::string& prefix,
                                        int depth) {
  for (std::size_t i = 0; i < dict.items.size(); i += 2) {
    if (++visits_ > kMostVisits) {
      return Fault(absl::StrFormat("more than %d entries", kMostVisits));
    }
    const PickleValue& key = Item(dict, i);
    const PickleValue& value = Item(dict, i + 1);
    if (key.kind != Kind::kText) {
      continue;
    }
    if (key.text.size() > kLongestName - std::min(prefix.size(), kLongestName)) {
      return Fault(prefix, absl::StrFormat("a name of more than %d bytes", kLongestName));
    }
    if (!IsUtf8(key.text)) {
      return Fault(prefix + key.text, "its name is not UTF-8");
    }
    const std::string name = prefix + key.text;
    bool typed_apart = false;
    if (value.kind == Kind::kDict && depth < kDeepest) {
      YANGTUO_RETURN_IF_ERROR(ListDict(value, name + ".", depth + 1));
    } else if (const PickleValue* arguments = RebuildArguments(value, typed_apart)) {
      YANGTUO_ASSIGN_OR_RETURN(StoredTensor tensor, ReadTensor(name, *arguments, typed_apart));
      if (!contents_.tensors.emplace(name, std::move(tensor)).second) {
        return Fault(name, "it is there twice");
      }
    }
  }
  return absl::OkStatus();
}

const PickleValue* CheckpointReader::RebuildArguments(const PickleValue& value,
                                                      bool& typed_apart) const {
  if (value.kind != Kind::kCall) {
    return nullptr;
  }
  const std::string& callee = Item(value, 0).text;
  const PickleValue& arguments = Item(value, 1);
  if (callee == kRebuildParameter) {
    // Its first argument is the tensor. Never a parameter of a parameter.
    const bool tensor = !arguments.items.empty() && Item(arguments, 0).kind == Kind::kCall &&
                        Item(Item(arguments, 0), 0).text != kRebuildParameter;
    return tensor ? RebuildArguments(Item(arguments, 0), typed_apart) : nullptr;
  }
  typed_apart = callee == kRebuildTyped;
  return typed_apart || callee == kRebuild ? &arguments : nullptr;
}

// (storage, offset, shape, strides, requires_grad, hooks[, dtype][, metadata])
absl::StatusOr<StoredTensor> CheckpointReader::ReadTensor(const std::string& name,
                                                          const PickleValue& arguments,
                                                          bool typed_apart) const {
  const std::size_t least = typed_apart ? 7 : 6;
  if (arguments.items.size() < least || Item(arguments, 0).kind != Kind::kPersistent ||
      Item(arguments, 1).kind != Kind::kWhole) {
    return Fault(name, "expected a storage, an offset, a shape and strides");
  }
  YANGTUO_ASSIGN_OR_RETURN(Storage storage, ReadStorage(name, Item(Item(arguments, 0), 0)));
  if (typed_apart) {
    const std::string& dtype = Item(arguments, 6).text;
    const auto* const type =
        std::find_if(kElementTypes.begin(), kElementTypes.end(),
                     [&dtype](const ElementType& t) { return !dtype.empty() && t.dtype == dtype; });
    if (type == kElementTypes.end()) {
      return Fault(name, absl::StrFormat("expected an element type, found %s", Shown(dtype)));
    }
    storage.type = *type;
    storage.elements = static_cast<std::int64_t>(storage.data.size()) / type->bytes;
  }
  StoredTensor tensor;
  tensor.name = name;
  tensor.file = &file_;
  YANGTUO_ASSIGN_OR_RETURN(tensor.shape, ReadSizes(name, Item(arguments, 2)));
  YANGTUO_ASSIGN_OR_RETURN(std::vector<std::int64_t> strides, ReadSizes(name, Item(arguments, 3)));
  if (strides.size() != tensor.shape.size()) {
    return Fault(name,
                 absl::StrFormat("shape %s, but strides %s", Shown(tensor.shape), Shown(strides)));
  }
  if (storage.type.type.has_value()) {
    tensor.dtype = *storage.type.type;
  } else {
    tensor.unsupported_type = storage.type.name;
  }
  YANGTUO_RETURN_IF_ERROR(Place(storage, Item(arguments, 1).whole, std::move(strides), tensor));
  return tensor;
}

// ("storage", type, key, device, elements[, view])
absl::StatusOr<Storage> CheckpointReader::ReadStorage(const std::string& name,
                                                      const PickleValue& id) const {
  if (id.kind != Kind::kTuple || id.items.size() < 5 || Item(id, 0).text != "storage" ||
      Item(id, 1).kind != Kind::kGlobal || Item(id, 2).kind != Kind::kText ||
      Item(id, 4).kind != Kind::kWhole || Item(id, 4).whole < 0) {
    return Fault(name, "expected the id of a storage");
  }
  const std::string& type_name = Item(id, 1).text;
  const auto* const type =
      std::find_if(kElementTypes.begin(), kElementTypes.end(),
                   [&type_name](const ElementType& t) { return t.storage == type_name; });
  if (type == kElementTypes.end()) {
    return Fault(name, absl::StrFormat("expected a type of storage, found %s", Shown(type_name)));
  }
  const std::string entry_name = top_ + "data/" + Item(id, 2).text;
  const auto entry = entries_.find(entry_name);
  if (entry == entries_.end()) {
    return Fault(name, absl::StrFormat("its storage %s is not in the archive", Shown(entry_name)));
  }
  const std::span<const std::byte> data = entry->second.data;
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(Item(id, 4).whole, type->bytes, &bytes) ||
      static_cast<std::uint64_t>(bytes) != data.size()) {
    return Fault(name, absl::StrFormat("its storage %s at offset %d has %d bytes, but is said to "
                                       "hold %d elements of %s",
                                       Shown(entry_name), data.data() - bytes_.data(), data.size(),
                                       Item(id, 4).whole, type->name));
  }
  return Storage{.type = *type, .elements = Item(id, 4).whole, .data = data};
}

absl::StatusOr<std::vector<std::int64_t>> CheckpointReader::ReadSizes(
    const std::string& name, const PickleValue& value) const {
  std::vector<std::int64_t> sizes;
  for (const std::uint32_t item : value.items) {
    const PickleValue& size = pickle_.at(item);
    if (size.kind != Kind::kWhole || size.whole < 0 || sizes.size() == kMostAxes) {
      return Fault(
          name, absl::StrFormat("expected at most %d sizes or strides of at least 0", kMostAxes));
    }
    sizes.push_back(size.whole);
  }
  if (value.kind != Kind::kTuple) {
    return Fault(name, "expected a tuple of sizes or strides");
  }
  return sizes;
}

// Sets where the tensor's elements lie in its storage, all of them within it.
absl::Status CheckpointReader::Place(const Storage& storage, std::int64_t offset,
                                     std::vector<std::int64_t> strides,
                                     StoredTensor& tensor) const {
  std::int64_t elements = 1;
  std::int64_t span = 1;  // from the first element to the last one, both included
  bool overflow = offset < 0;
  for (std::size_t axis = 0; axis < strides.size(); ++axis) {
    const std::int64_t size = tensor.shape[axis];
    std::int64_t reach = 0;
    overflow = overflow || (size != 0 && __builtin_mul_overflow(elements, size, &elements)) ||
               elements > kMostElements ||
               __builtin_mul_overflow(std::max<std::int64_t>(size - 1, 0), strides[axis], &reach) ||
               __builtin_add_overflow(span, reach, &span);
  }
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  span = empty ? 0 : span;
  if (overflow || offset > storage.elements || span > storage.elements - offset) {
    return Fault(tensor.name,
                 absl::StrFormat("shape %s with strides %s from element %d leaves its storage of "
                                 "%d elements",
                                 Shown(tensor.shape), Shown(strides), offset, storage.elements));
  }
  tensor.data = storage.data.subspan(static_cast<std::size_t>(offset * storage.type.bytes),
                                     static_cast<std::size_t>(span * storage.type.bytes));
  if (empty || IsRowMajor(tensor.shape, strides)) {
    return absl::OkStatus();
  }
  tensor.strides = std::move(strides);
  // A view that repeats elements can be larger than any memory.
  if (elements > span && tensor.unsupported_type.empty()) {
    tensor.unsupported_type = absl::StrFormat("expanded %s", storage.type.name);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TorchContents> ParseTorchCheckpoint(std::span<const std::byte> bytes,
                                                   const std::filesystem::path& file) {
  return CheckpointReader(bytes, file).Read();
}

}  // namespace yangtuo
