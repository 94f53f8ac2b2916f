#include "tests/testing/data.h"

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace yangtuo {

std::optional<std::filesystem::path> SharedData(std::string_view relative) {
  const std::filesystem::path path = SourceFile("../shared/data") / relative;
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? std::optional(path) : std::nullopt;
}

std::filesystem::path SourceFile(std::string_view relative) {
  return std::filesystem::path(YANGTUO_SOURCE_DIR) / relative;
}

std::string ReadTestFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw std::runtime_error("cannot read " + path.string());
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteTestFile(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) {
    throw std::runtime_error("cannot write " + path.string());
  }
}

}  // namespace yangtuo
