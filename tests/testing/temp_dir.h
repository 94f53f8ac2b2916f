#pragma once

#include <filesystem>

namespace yangtuo {

// A new empty folder, removed with everything in it on destruction. Throws
// std::filesystem::filesystem_error when there is no room for one.
class TempDir {
 public:
  TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace yangtuo
