#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "absl/status/statusor.h"

namespace yangtuo {

// A whole file mapped read-only. Move-only; unmaps on destruction.
class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED or FAILED_PRECONDITION (a folder), naming the file. An empty file
  // gives an empty span.
  static absl::StatusOr<MappedFile> Open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

// Says that these bytes of a mapping are not needed again soon: the pages wholly inside stop
// counting as this process's memory, and are read again when they are needed after all.
void ForgetPages(std::span<const std::byte> bytes);

}  // namespace yangtuo
