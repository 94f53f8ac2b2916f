#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// GGUF, llama.cpp's one-file format (https://github.com/ggml-org/ggml, docs/gguf.md): versions 2
// and 3, little endian.

// The numbers are the file's.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of one value; 0 for strings and arrays, which have no fixed size.
[[nodiscard]] std::size_t SizeOf(GgufType type);

// One value of the metadata as it lies in the file, checked but not decoded.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element_type = GgufType::kUint8;  // of an array
  std::uint64_t count = 0;                   // of an array
  // The number; the text of a string; all elements of an array (of strings: each after its length
  // in 8 bytes; of arrays: each after its type and count).
  std::span<const std::byte> bytes = {};
};

// The keys of a file and their values, in the file's order. The typed forms return `absent` for a
// key that is not there, NOT_FOUND when that is not given, and INVALID_ARGUMENT naming file, key,
// what was expected and found for a value of another type.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string file) : file_(std::move(file)) {}

  [[nodiscard]] const std::vector<std::pair<std::string, GgufValue>>& entries() const {
    return entries_;
  }
  // Null when it is not there.
  [[nodiscard]] const GgufValue* Find(std::string_view key) const;
  // False when `key` is there already.
  [[nodiscard]] bool Add(const std::string& key, GgufValue value);

  // Any whole number type that int64 holds.
  [[nodiscard]] absl::StatusOr<std::int64_t> Whole(
      std::string_view key, std::optional<std::int64_t> absent = std::nullopt) const;
  // Any number type.
  [[nodiscard]] absl::StatusOr<double> Real(std::string_view key,
                                            std::optional<double> absent = std::nullopt) const;
  [[nodiscard]] absl::StatusOr<bool> Flag(std::string_view key,
                                          std::optional<bool> absent = std::nullopt) const;
  [[nodiscard]] absl::StatusOr<std::string> Text(
      std::string_view key, std::optional<std::string> absent = std::nullopt) const;
  // Arrays. The texts lie in the file.
  [[nodiscard]] absl::StatusOr<std::vector<std::string_view>> Texts(std::string_view key) const;
  [[nodiscard]] absl::StatusOr<std::vector<float>> Reals(std::string_view key) const;
  [[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> Wholes(std::string_view key) const;

 private:
  [[nodiscard]] absl::StatusOr<GgufValue> Require(std::string_view key) const;
  [[nodiscard]] absl::Status Unexpected(std::string_view key, std::string_view expected,
                                        const GgufValue& found) const;

  std::string file_;
  std::vector<std::pair<std::string, GgufValue>> entries_;
  std::map<std::string, std::size_t, std::less<>> places_;
};

// For people: numbers and texts as they are (cut to a line), arrays as "1234 x string".
[[nodiscard]] std::string Shown(const GgufValue& value);

// What one file holds.
struct GgufContents {
  std::uint32_t version = 0;
  std::uint64_t alignment = 0;
  GgufMetadata metadata;
  std::vector<StoredTensor> tensors = {};  // in the file's order; shapes outermost first
  std::span<const std::byte> header = {};  // all before the tensors' data
};

// Checks and lists one file's bytes, which with `file` must outlive the result. DATA_LOSS names
// file, key or tensor, and offset; UNIMPLEMENTED for version 1 and big endian. Tensors of a type
// that DType lacks are listed as unsupported under its name, without data.
absl::StatusOr<GgufContents> ParseGguf(std::span<const std::byte> bytes,
                                       const std::filesystem::path& file);

// A GGUF file, mapped while this lives. Immutable, thread-safe.
class GgufFile {
 public:
  // As ParseGguf and MappedFile::Open.
  static absl::StatusOr<GgufFile> Open(const std::filesystem::path& file);

  [[nodiscard]] std::uint32_t version() const;
  [[nodiscard]] const GgufMetadata& metadata() const;
  [[nodiscard]] const std::vector<StoredTensor>& tensors() const;
  // Null when it is not there.
  [[nodiscard]] const StoredTensor* FindStored(std::string_view name) const;
  [[nodiscard]] const std::filesystem::path& path() const;
  [[nodiscard]] std::uint64_t file_bytes() const;
  // SHA-256 over `canonical_config`, the header and the file's size, hexadecimal.
  [[nodiscard]] std::string WeakDigest(std::string_view canonical_config) const;

 private:
  struct State;
  explicit GgufFile(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

// The number that GGUF gives a type; nullopt for those it has none for (int8, int4).
[[nodiscard]] std::optional<std::uint32_t> GgufNumberOf(DType type);

}  // namespace yangtuo
