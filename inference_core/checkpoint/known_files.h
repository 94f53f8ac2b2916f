#pragma once

#include <span>
#include <string_view>

namespace yangtuo {

// A published file, by its SHA-256 (hexadecimal).
struct KnownFile {
  std::string_view sha256;
  std::string_view name;  // as it is published
  std::string_view what;
};

// The originals that merges start from and are compared with, as their publishers list them
// (Chinese-LLaMA-Alpaca's SHA256.md and the repositories' own files).
[[nodiscard]] std::span<const KnownFile> KnownFiles();

// Null for a file that is not among them.
[[nodiscard]] const KnownFile* FindKnownFile(std::string_view sha256);

}  // namespace yangtuo
