#include "inference_core/formats/zip_archive.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/byte_reader.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

// Records begin with these.
constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kDirectoryEntry = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kEnd64Locator = 0x07064b50;

constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kLongestComment = 65535;

constexpr std::uint16_t kEncrypted = 1;
constexpr std::uint16_t kZip64Extra = 1;
// In a 32-bit or 16-bit field: look into the zip64 record.
constexpr std::uint32_t kSee64 = 0xffffffff;
constexpr std::uint16_t kSee64Short = 0xffff;

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
};

// The fields of a directory entry that count here.
struct EntryHeader {
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t packed_bytes = 0;
  std::uint64_t bytes = 0;
  std::uint64_t local_offset = 0;
  std::string_view name;
};

// Reads one archive. Lives for one call.
class ArchiveReader {
 public:
  ArchiveReader(std::span<const std::byte> bytes, const std::filesystem::path& file)
      : bytes_(bytes), file_(file) {}

  absl::StatusOr<std::map<std::string, ZipEntry, std::less<>>> Read() const;

 private:
  [[nodiscard]] absl::Status Fault(std::uint64_t offset, const std::string& what) const {
    return absl::DataLossError(absl::StrFormat(
        "%s: zip archive, offset %d: %s; the file is damaged or incomplete, fetch or write it "
        "again",
        file_.string(), offset, what));
  }

  [[nodiscard]] absl::StatusOr<std::size_t> FindEnd() const;
  [[nodiscard]] absl::StatusOr<Directory> ReadEnd() const;
  // Replaces what the end record leaves to the zip64 one before it.
  [[nodiscard]] absl::Status ReadEnd64(std::size_t end, Directory& directory) const;
  [[nodiscard]] absl::StatusOr<EntryHeader> ReadEntry(ByteReader& reader,
                                                      std::uint64_t offset) const;
  [[nodiscard]] absl::StatusOr<ZipEntry> Locate(const EntryHeader& header) const;

  std::span<const std::byte> bytes_;
  const std::filesystem::path& file_;
};

absl::StatusOr<std::size_t> ArchiveReader::FindEnd() const {
  if (bytes_.size() < kEndBytes) {
    return Fault(0, absl::StrFormat("%d bytes are too few for an archive", bytes_.size()));
  }
  const std::size_t last = bytes_.size() - kEndBytes;
  const std::size_t first = last - std::min(last, kLongestComment);
  for (std::size_t at = last + 1; at-- > first;) {
    ByteReader reader(bytes_.subspan(at));
    if (reader.Take<std::uint32_t>() == kEnd) {
      return at;
    }
  }
  return Fault(bytes_.size(), "no end record: not a zip archive, or cut short");
}

absl::Status ArchiveReader::ReadEnd64(std::size_t end, Directory& directory) const {
  if (end < kLocatorBytes) {
    return Fault(end, "expected a zip64 locator before the end record");
  }
  ByteReader locator(bytes_.subspan(end - kLocatorBytes));
  const bool found = locator.Take<std::uint32_t>() == kEnd64Locator;
  static_cast<void>(locator.Take<std::uint32_t>());  // disk
  const std::uint64_t at = locator.Take<std::uint64_t>().value_or(0);
  if (!found || at > end) {
    return Fault(end - kLocatorBytes, "expected a zip64 locator of a record within the file");
  }
  ByteReader record(
      bytes_.subspan(static_cast<std::size_t>(at), end - static_cast<std::size_t>(at)));
  if (record.Take<std::uint32_t>() != kEnd64) {
    return Fault(at, "expected a zip64 end record");
  }
  // Record size, versions, disks, entries on this disk.
  static_cast<void>(record.TakeBytes(8 + 2 + 2 + 4 + 4 + 8));
  const auto entries = record.Take<std::uint64_t>();
  const auto size = record.Take<std::uint64_t>();
  const auto offset = record.Take<std::uint64_t>();
  if (!offset.has_value()) {
    return Fault(at, "the zip64 end record is cut short");
  }
  directory = {.entries = *entries, .bytes = *size, .offset = *offset};
  return absl::OkStatus();
}

absl::StatusOr<Directory> ArchiveReader::ReadEnd() const {
  YANGTUO_ASSIGN_OR_RETURN(const std::size_t end, FindEnd());
  ByteReader reader(bytes_.subspan(end));
  static_cast<void>(reader.TakeBytes(4 + 2 + 2 + 2));  // signature, disks, entries on this disk
  const auto entries = reader.Take<std::uint16_t>();
  const auto size = reader.Take<std::uint32_t>();
  const auto offset = reader.Take<std::uint32_t>();
  Directory directory = {
      .entries = entries.value_or(0), .bytes = size.value_or(0), .offset = offset.value_or(0)};
  if (entries == kSee64Short || size == kSee64 || offset == kSee64) {
    YANGTUO_RETURN_IF_ERROR(ReadEnd64(end, directory));
  }
  if (directory.offset > end || directory.bytes > end - directory.offset) {
    return Fault(end, absl::StrFormat("the end record claims a directory of %d bytes at offset %d, "
                                      "beyond itself",
                                      directory.bytes, directory.offset));
  }
  return directory;
}

// The zip64 extra field holds, in this order, those of the three that the entry leaves to it.
bool ReadZip64(std::string_view extra, EntryHeader& header) {
  ByteReader fields(std::as_bytes(std::span(extra)));
  while (fields.left() > 0) {
    const auto id = fields.Take<std::uint16_t>();
    const auto size = fields.Take<std::uint16_t>();
    const auto body = size.has_value() ? fields.TakeBytes(*size) : std::nullopt;
    if (!body.has_value()) {
      return false;
    }
    if (id != kZip64Extra) {
      continue;
    }
    ByteReader values(*body);
    for (std::uint64_t* const value : {&header.bytes, &header.packed_bytes, &header.local_offset}) {
      if (*value == kSee64) {
        const auto wide = values.Take<std::uint64_t>();
        if (!wide.has_value()) {
          return false;
        }
        *value = *wide;
      }
    }
  }
  return true;
}

absl::StatusOr<EntryHeader> ArchiveReader::ReadEntry(ByteReader& reader,
                                                     std::uint64_t offset) const {
  if (reader.Take<std::uint32_t>() != kDirectoryEntry) {
    return Fault(offset, "expected an entry of the directory");
  }
  EntryHeader header;
  static_cast<void>(reader.TakeBytes(2 + 2));  // versions
  header.flags = reader.Take<std::uint16_t>().value_or(0);
  header.method = reader.Take<std::uint16_t>().value_or(0);
  static_cast<void>(reader.TakeBytes(4));  // date
  header.crc32 = reader.Take<std::uint32_t>().value_or(0);
  header.packed_bytes = reader.Take<std::uint32_t>().value_or(0);
  header.bytes = reader.Take<std::uint32_t>().value_or(0);
  const std::uint16_t name_bytes = reader.Take<std::uint16_t>().value_or(0);
  const std::uint16_t extra_bytes = reader.Take<std::uint16_t>().value_or(0);
  const std::uint16_t comment_bytes = reader.Take<std::uint16_t>().value_or(0);
  static_cast<void>(reader.TakeBytes(2 + 2 + 4));  // disk, attributes
  const auto local = reader.Take<std::uint32_t>();
  const auto name = reader.TakeText(name_bytes);
  const auto extra = reader.TakeText(extra_bytes);
  if (!local.has_value() || !name.has_value() || !extra.has_value() ||
      !reader.TakeBytes(comment_bytes).has_value()) {
    return Fault(offset, "an entry of the directory is cut short");
  }
  header.local_offset = *local;
  header.name = *name;
  if (!ReadZip64(*extra, header)) {
    return Fault(
        offset, absl::StrFormat("the extra fields of %s are malformed", Shown(std::string(*name))));
  }
  return header;
}

absl::StatusOr<ZipEntry> ArchiveReader::Locate(const EntryHeader& header) const {
  const std::string name = Shown(std::string(header.name));
  if ((header.flags & kEncrypted) != 0 || header.method != 0) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: zip entry %s is %s; only archives as torch.save writes them are read", file_.string(),
        name, (header.flags & kEncrypted) != 0 ? "encrypted" : "compressed"));
  }
  if (header.bytes != header.packed_bytes) {
    return Fault(header.local_offset,
                 absl::StrFormat("%s is stored as it is, yet in %d bytes for %d", name,
                                 header.packed_bytes, header.bytes));
  }
  if (header.local_offset > bytes_.size()) {
    return Fault(header.local_offset, absl::StrFormat("%s begins beyond the file", name));
  }
  ByteReader reader(bytes_.subspan(static_cast<std::size_t>(header.local_offset)));
  const bool begins = reader.Take<std::uint32_t>() == kLocalHeader;
  static_cast<void>(reader.TakeBytes(22));  // what the directory says as well
  const auto name_bytes = reader.Take<std::uint16_t>();
  const auto extra_bytes = reader.Take<std::uint16_t>();
  const auto local_name = reader.TakeText(name_bytes.value_or(0));
  if (!begins || !extra_bytes.has_value() || local_name != header.name ||
      !reader.TakeBytes(*extra_bytes).has_value()) {
    return Fault(header.local_offset, absl::StrFormat("expected the header of %s", name));
  }
  const auto data = reader.TakeBytes(header.bytes);
  if (!data.has_value()) {
    return Fault(header.local_offset,
                 absl::StrFormat("%s has %d bytes, but the file ends %d bytes after its header",
                                 name, header.bytes, reader.left()));
  }
  return ZipEntry{.data = *data, .crc32 = header.crc32};
}

absl::StatusOr<std::map<std::string, ZipEntry, std::less<>>> ArchiveReader::Read() const {
  YANGTUO_ASSIGN_OR_RETURN(const Directory directory, ReadEnd());
  ByteReader reader(bytes_.subspan(static_cast<std::size_t>(directory.offset),
                                   static_cast<std::size_t>(directory.bytes)));
  std::map<std::string, ZipEntry, std::less<>> entries;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    const std::uint64_t offset = directory.offset + reader.offset();
    YANGTUO_ASSIGN_OR_RETURN(const EntryHeader header, ReadEntry(reader, offset));
    YANGTUO_ASSIGN_OR_RETURN(const ZipEntry entry, Locate(header));
    if (!entries.emplace(header.name, entry).second) {
      return Fault(offset, absl::StrFormat("%s is there twice", Shown(std::string(header.name))));
    }
  }
  return entries;
}

}  // namespace

absl::StatusOr<std::map<std::string, ZipEntry, std::less<>>> ParseZipArchive(
    std::span<const std::byte> bytes, const std::filesystem::path& file) {
  return ArchiveReader(bytes, file).Read();
}

}  // namespace yangtuo
