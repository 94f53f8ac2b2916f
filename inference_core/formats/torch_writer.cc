#include "inference_core/formats/torch_writer.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <zlib.h>

#include "absl/strings/str_format.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/formats/tensor_places.h"

namespace yangtuo {
namespace {

constexpr std::string_view kTop = "archive/";
constexpr std::uint64_t kDataAlignment = 64;  // as torch.save has it

template <typename T>
void Put(std::string& bytes, T value) {
  static_assert(std::is_integral_v<T>);
  const std::size_t end = bytes.size();
  bytes.resize(end + sizeof(value));
  std::memcpy(bytes.data() + end, &value, sizeof(value));
}

// The pickle. Opcodes as in Python's pickletools; nothing is memoized.

void PutText(std::string& pickle, std::string_view text) {
  pickle += 'X';
  Put(pickle, static_cast<std::uint32_t>(text.size()));
  pickle += text;
}

void PutWhole(std::string& pickle, std::int64_t whole) {
  if (whole >= 0 && whole <= std::numeric_limits<std::uint8_t>::max()) {
    pickle += 'K';
    Put(pickle, static_cast<std::uint8_t>(whole));
  } else if (whole >= 0 && whole <= std::numeric_limits<std::int32_t>::max()) {
    pickle += 'J';
    Put(pickle, static_cast<std::int32_t>(whole));
  } else {
    pickle += "\x8a\x08";
    Put(pickle, whole);
  }
}

void PutWholes(std::string& pickle, const std::vector<std::int64_t>& wholes) {
  pickle += '(';
  for (const std::int64_t whole : wholes) {
    PutWhole(pickle, whole);
  }
  pickle += 't';
}

constexpr std::string_view kEmptyOrderedDict = "ccollections\nOrderedDict\n)R";

std::vector<std::int64_t> RowMajorStrides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;) {
    strides[axis - 1] = strides[axis] * std::max<std::int64_t>(shape[axis], 1);
  }
  return strides;
}

std::string_view StorageOf(DType type) {
  return type == DType::kF32   ? "ctorch\nFloatStorage\n"
         : type == DType::kF16 ? "ctorch\nHalfStorage\n"
                               : "ctorch\nBFloat16Storage\n";
}

std::string EncodePickle(const std::vector<TensorSpec>& tensors) {
  std::string pickle = "\x80\x02";
  pickle += kEmptyOrderedDict;
  pickle += '(';
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    PutText(pickle, tensors[i].name);
    pickle += "ctorch._utils\n_rebuild_tensor_v2\n((";
    PutText(pickle, "storage");
    pickle += StorageOf(tensors[i].dtype);
    PutText(pickle, std::to_string(i));
    PutText(pickle, "cpu");
    PutWhole(pickle, tensors[i].bytes() / SizeOf(tensors[i].dtype));
    pickle += "tQ";
    PutWhole(pickle, 0);
    PutWholes(pickle, tensors[i].shape);
    PutWholes(pickle, RowMajorStrides(tensors[i].shape));
    pickle += '\x89';  // requires_grad
    pickle += kEmptyOrderedDict;
    pickle += "tR";
  }
  return pickle + "u.";
}

// The archive. Sizes and places always stand in zip64 records, however small the file, so that
// there is one way to write and it is the one that large files need.

struct Entry {
  std::string name;
  std::uint64_t header = 0;  // offset
  std::uint64_t data = 0;    // offset
  std::uint64_t bytes = 0;
  std::uint32_t crc32 = 0;
};

constexpr std::uint16_t kVersionWithZip64 = 45;
constexpr std::uint16_t kNameIsUtf8 = 1U << 11U;
constexpr std::uint32_t kSee64 = 0xffffffff;
constexpr std::size_t kLocalHeaderBytes = 30;
constexpr std::size_t kLocalZip64Bytes = 20;
constexpr std::size_t kExtraHeaderBytes = 4;

// Signature to date: what local headers and directory entries have in common.
void PutCommon(std::string& bytes, const Entry& entry, std::uint16_t extra_bytes) {
  Put(bytes, kVersionWithZip64);
  Put(bytes, kNameIsUtf8);
  Put(bytes, std::uint16_t{0});     // stored
  Put(bytes, std::uint16_t{0});     // time
  Put(bytes, std::uint16_t{0x21});  // 1980-01-01
  Put(bytes, entry.crc32);
  Put(bytes, kSee64);
  Put(bytes, kSee64);
  Put(bytes, static_cast<std::uint16_t>(entry.name.size()));
  Put(bytes, extra_bytes);
}

// Ends where the data begins: an extra field of no meaning fills the gap.
std::string LocalHeader(const Entry& entry) {
  const std::uint64_t extra_bytes =
      entry.data - entry.header - kLocalHeaderBytes - entry.name.size();
  std::string bytes;
  Put(bytes, std::uint32_t{0x04034b50});
  PutCommon(bytes, entry, static_cast<std::uint16_t>(extra_bytes));
  bytes += entry.name;
  Put(bytes, std::uint16_t{1});  // zip64
  Put(bytes, std::uint16_t{16});
  Put(bytes, entry.bytes);
  Put(bytes, entry.bytes);
  bytes += "FB";  // torch.save's own filler
  const std::uint64_t fill = extra_bytes - kLocalZip64Bytes - kExtraHeaderBytes;
  Put(bytes, static_cast<std::uint16_t>(fill));
  return bytes.append(static_cast<std::size_t>(fill), 'Z');
}

std::string DirectoryEntry(const Entry& entry) {
  std::string bytes;
  Put(bytes, std::uint32_t{0x02014b50});
  Put(bytes, kVersionWithZip64);  // made by
  PutCommon(bytes, entry, 28);
  Put(bytes, std::uint16_t{0});  // comment
  Put(bytes, std::uint16_t{0});  // disk
  Put(bytes, std::uint16_t{0});  // attributes
  Put(bytes, std::uint32_t{0});
  Put(bytes, kSee64);
  bytes += entry.name;
  Put(bytes, std::uint16_t{1});  // zip64
  Put(bytes, std::uint16_t{24});
  Put(bytes, entry.bytes);
  Put(bytes, entry.bytes);
  Put(bytes, entry.header);
  return bytes;
}

std::string EndRecords(std::uint64_t entries, std::uint64_t directory, std::uint64_t bytes_of_it) {
  std::string bytes;
  Put(bytes, std::uint32_t{0x06064b50});
  Put(bytes, std::uint64_t{44});  // of this record, after this field
  Put(bytes, kVersionWithZip64);
  Put(bytes, kVersionWithZip64);
  Put(bytes, std::uint32_t{0});
  Put(bytes, std::uint32_t{0});
  Put(bytes, entries);
  Put(bytes, entries);
  Put(bytes, bytes_of_it);
  Put(bytes, directory);
  Put(bytes, std::uint32_t{0x07064b50});
  Put(bytes, std::uint32_t{0});
  Put(bytes, directory + bytes_of_it);
  Put(bytes, std::uint32_t{1});
  Put(bytes, std::uint32_t{0x06054b50});
  Put(bytes, std::uint32_t{0});  // disks
  Put(bytes, std::uint16_t{0xffff});
  Put(bytes, std::uint16_t{0xffff});
  Put(bytes, kSee64);
  Put(bytes, kSee64);
  Put(bytes, std::uint16_t{0});  // comment
  return bytes;
}

// Gives each entry its place, behind the one before it.
class ArchiveLayout {
 public:
  void Add(std::string name, std::uint64_t bytes) {
    Entry entry = {.name = std::string(kTop) + std::move(name), .header = end_, .bytes = bytes};
    entry.data =
        RoundUp(end_ + kLocalHeaderBytes + entry.name.size() + kLocalZip64Bytes + kExtraHeaderBytes,
                kDataAlignment);
    end_ = entry.data + bytes;
    entries_.push_back(std::move(entry));
  }
  [[nodiscard]] std::vector<Entry>& entries() { return entries_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }

 private:
  std::vector<Entry> entries_;
  std::uint64_t end_ = 0;
};

std::uint32_t Crc32(std::uint32_t before, std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(before, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

class TorchWriter final : public TensorFileWriter {
 public:
  TorchWriter(OutputFile file, TensorPlaces places, ArchiveLayout layout)
      : file_(std::move(file)), places_(std::move(places)), layout_(std::move(layout)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override {
    YANGTUO_ASSIGN_OR_RETURN(const std::uint64_t offset, places_.Take(index, rows.size()));
    std::uint32_t& crc32 = layout_.entries()[index].crc32;
    crc32 = Crc32(crc32, rows);
    return file_.WriteAt(offset, rows);
  }

  // The entries after the tensors' own.
  absl::Status WriteEntry(std::size_t index, std::string_view content) {
    Entry& entry = layout_.entries()[index];
    entry.crc32 = Crc32(0, std::as_bytes(std::span(content)));
    return file_.WriteAt(entry.data, std::as_bytes(std::span(content)));
  }

  absl::Status Finish() override {
    YANGTUO_RETURN_IF_ERROR(places_.CheckComplete());
    std::string directory;
    for (const Entry& entry : layout_.entries()) {
      const std::string header = LocalHeader(entry);
      YANGTUO_RETURN_IF_ERROR(file_.WriteAt(entry.header, std::as_bytes(std::span(header))));
      directory += DirectoryEntry(entry);
    }
    const std::uint64_t bytes = directory.size();
    directory += EndRecords(layout_.entries().size(), layout_.end(), bytes);
    YANGTUO_RETURN_IF_ERROR(file_.WriteAt(layout_.end(), std::as_bytes(std::span(directory))));
    return file_.Commit();
  }

 private:
  OutputFile file_;
  TensorPlaces places_;
  ArchiveLayout layout_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewTorchWriter(
    const std::filesystem::path& target, const std::vector<TensorSpec>& tensors) {
  YANGTUO_RETURN_IF_ERROR(CheckSpecs(tensors, target));
  ArchiveLayout layout;
  TensorPlaces places(target);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!IsPlain(tensors[i].dtype)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s: a torch checkpoint holds f32, f16 and bf16, not %s",
                          target.string(), Shown(tensors[i].name), NameOf(tensors[i].dtype)));
    }
    const auto bytes = static_cast<std::uint64_t>(tensors[i].bytes());
    layout.Add("data/" + std::to_string(i), bytes);
    places.Add({.name = tensors[i].name,
                .offset = layout.entries().back().data,
                .bytes = bytes,
                .row_bytes = static_cast<std::uint64_t>(tensors[i].row_bytes())});
  }
  const std::string pickle = EncodePickle(tensors);
  constexpr std::string_view kVersion = "3\n";
  layout.Add("data.pkl", pickle.size());
  layout.Add("version", kVersion.size());
  YANGTUO_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(target));
  YANGTUO_RETURN_IF_ERROR(file.Reserve(layout.end()));
  auto writer =
      std::make_unique<TorchWriter>(std::move(file), std::move(places), std::move(layout));
  YANGTUO_RETURN_IF_ERROR(writer->WriteEntry(tensors.size(), pickle));
  YANGTUO_RETURN_IF_ERROR(writer->WriteEntry(tensors.size() + 1, kVersion));
  return std::unique_ptr<TensorFileWriter>(std::move(writer));
}

}  // namespace yangtuo
