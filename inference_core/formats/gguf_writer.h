#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/gguf.h"
#include "inference_core/formats/tensor_file_writer.h"

namespace yangtuo {

// The metadata of a GGUF file to be written: keys in the order of their first Set; a later Set of
// the same key replaces the value. "general.alignment" is the writer's affair: setting it has no
// effect, so that the values of another file can be taken over as they are.
class GgufKeyValues {
 public:
  void SetUint32(const std::string& key, std::uint32_t value);
  void SetUint64(const std::string& key, std::uint64_t value);
  void SetFloat32(const std::string& key, float value);
  void SetBool(const std::string& key, bool value);
  void SetText(const std::string& key, std::string_view value);
  void SetTexts(const std::string& key, std::span<const std::string> values);
  void SetReals(const std::string& key, std::span<const float> values);
  void SetWholes(const std::string& key, std::span<const std::int32_t> values);
  // As another file has it.
  void SetValue(const std::string& key, const GgufValue& value);

  // All of them as they lie in a file, and their number.
  [[nodiscard]] std::string Encode() const;
  [[nodiscard]] std::uint64_t size() const { return entries_.size(); }

 private:
  // `encoded`: type and value.
  void Set(const std::string& key, std::string encoded);

  std::vector<std::pair<std::string, std::string>> entries_;
};

// Writes one GGUF file of version 3 with the default alignment (32). The tensors lie in the order
// of the list; shapes are outermost first, as everywhere. INVALID_ARGUMENT for types that GGUF does
// not have (int8, int4) and for names longer than the 63 bytes that llama.cpp takes.
absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewGgufWriter(
    const std::filesystem::path& target, const GgufKeyValues& keys,
    const std::vector<TensorSpec>& tensors);

}  // namespace yangtuo
