#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yangtuo {

// Output that is there whole or not at all: written under another name in the target's own folder
// (".NAME.partial"), renamed by Commit, removed otherwise. A run that is killed leaves only that
// name, which the next run to the same target takes over. Errors name the target:
// RESOURCE_EXHAUSTED for a full disk, with the bytes wanted and free; ABORTED when another run is
// writing the same target; NOT_FOUND and PERMISSION_DENIED for the folder.

// One file. Writes at any place in any order; what lies between reads as zeros. One thread at a
// time, but WriteAt from several when their ranges are apart. Move-only.
class OutputFile {
 public:
  // Replaces `target` on Commit when it is a file; FAILED_PRECONDITION when it is anything else.
  static absl::StatusOr<OutputFile> Create(const std::filesystem::path& target);

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  // Takes `bytes` of disk from the beginning at once, so that a disk too small is found before the
  // work and not after it. The file is then at least that long.
  absl::Status Reserve(std::uint64_t bytes);
  absl::Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes);
  // Everything is on the disk before the name appears. Once.
  absl::Status Commit();

  [[nodiscard]] const std::filesystem::path& target() const { return target_; }

 private:
  OutputFile(std::filesystem::path target, std::filesystem::path aside, int fd);

  std::filesystem::path target_;
  std::filesystem::path aside_;
  int fd_ = -1;  // -1 after Commit and after a move
};

namespace internal {
// Bytes of disk that the file still takes until it has `bytes`. For Reserve where the file system
// does not set bytes aside: what the file has need not be free.
[[nodiscard]] std::uint64_t BytesBeyond(int fd, std::uint64_t bytes);
}  // namespace internal

// A folder: files are put into `path()`, by OutputFile or any other means, until Commit.
class OutputFolder {
 public:
  // ALREADY_EXISTS when `target` is there and not an empty folder.
  static absl::StatusOr<OutputFolder> Create(const std::filesystem::path& target);

  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&& other) noexcept;
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  ~OutputFolder();

  [[nodiscard]] const std::filesystem::path& path() const { return aside_; }
  [[nodiscard]] const std::filesystem::path& target() const { return target_; }
  absl::Status Commit();

 private:
  OutputFolder(std::filesystem::path target, std::filesystem::path aside, int fd);

  std::filesystem::path target_;
  std::filesystem::path aside_;
  int fd_ = -1;  // holds the lock
};

// A small file as a whole, through OutputFile.
absl::Status WriteOutputFile(const std::filesystem::path& target, std::string_view content);

// Bytes that a file below `path` can still take: the file system's free ones that are not kept for
// the administrator. `path` itself need not be there yet.
absl::StatusOr<std::uint64_t> FreeDiskBytes(const std::filesystem::path& path);

}  // namespace yangtuo
