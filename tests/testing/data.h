#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace yangtuo {

// A file or folder of the shared test data, e.g. "weights/poem-llama". Nullopt where the data is
// not beside this checkout: the test then skips itself (GTEST_SKIP).
[[nodiscard]] std::optional<std::filesystem::path> SharedData(std::string_view relative);

// A file or folder of this repository, e.g. "deploy/models/poem-alpaca".
[[nodiscard]] std::filesystem::path SourceFile(std::string_view relative);

// Reads and writes whole files. Throw std::runtime_error naming the file.
[[nodiscard]] std::string ReadTestFile(const std::filesystem::path& path);
void WriteTestFile(const std::filesystem::path& path, std::string_view bytes);

}  // namespace yangtuo
