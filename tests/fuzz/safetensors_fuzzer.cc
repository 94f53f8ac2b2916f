// Arbitrary bytes as a safetensors file: never a crash, and whatever is accepted can be read.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "inference_core/formats/safetensors.h"

namespace {

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void CheckTensor(const yangtuo::StoredTensor& tensor, std::span<const std::byte> file) {
  Require(tensor.data.data() >= file.data() &&
          tensor.data.data() + tensor.data.size() <= file.data() + file.size());
  if (!tensor.unsupported_type.empty()) {
    return;
  }
  std::int64_t bytes = yangtuo::SizeOf(tensor.dtype);
  for (const std::int64_t size : tensor.shape) {
    Require(size >= 0);
    bytes *= size;  // UBSan sees an overflow that was let through
  }
  Require(bytes == static_cast<std::int64_t>(tensor.data.size()));
}

void CheckFile(std::span<const std::byte> file) {
  static const std::filesystem::path name_of_file = "fuzz.safetensors";
  const auto tensors = yangtuo::ParseSafetensors(file, name_of_file);
  if (!tensors.ok()) {
    Require(tensors.status().code() == absl::StatusCode::kDataLoss);
    // Goes into gRPC messages: short, and dump() throws unless it is UTF-8.
    Require(nlohmann::json(std::string(tensors.status().message())).dump().size() < 4096);
    return;
  }
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : *tensors) {
    Require(name == tensor.name && tensor.file == &name_of_file);
    CheckTensor(tensor, file);
    bytes += tensor.data.size();
  }
  Require(bytes <= file.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  CheckFile(bytes);
  // Again with a length that fits the header, which a mutation of the text rarely keeps right.
  if (size > sizeof(std::uint64_t)) {
    std::string file(reinterpret_cast<const char*>(data), size);
    const std::size_t end = file.rfind('}');
    if (end != std::string::npos && end >= sizeof(std::uint64_t)) {
      const std::uint64_t length = end + 1 - sizeof(length);
      std::memcpy(file.data(), &length, sizeof(length));
      CheckFile(std::as_bytes(std::span(file)));
    }
  }
  return 0;
}
