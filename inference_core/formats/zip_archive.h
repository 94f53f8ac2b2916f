#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace yangtuo {

// One file of a zip archive, as it lies there.
struct ZipEntry {
  std::span<const std::byte> data;
  std::uint32_t crc32 = 0;  // as the directory says it; not compared with the data
};

// The files of a zip archive (PKWARE's APPNOTE.TXT, 6.3) whose files are stored without
// compression, as PyTorch writes it: with zip64 records and data descriptors. `bytes` must outlive
// the result. DATA_LOSS, naming `file` and the offset, for a malformed one; UNIMPLEMENTED for
// compression and encryption.
absl::StatusOr<std::map<std::string, ZipEntry, std::less<>>> ParseZipArchive(
    std::span<const std::byte> bytes, const std::filesystem::path& file);

}  // namespace yangtuo
