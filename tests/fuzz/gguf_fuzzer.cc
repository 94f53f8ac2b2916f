// Arbitrary bytes as a GGUF file: never a crash, and whatever is accepted can be read.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "inference_core/formats/gguf.h"
#include "tests/fuzz/checks.h"

namespace {

using yangtuo::fuzz::Require;

void CheckKey(const yangtuo::GgufMetadata& metadata, const std::string& key,
              const yangtuo::GgufValue& value) {
  Require(metadata.Find(key) != nullptr);
  Require(Shown(value).size() < 1024);
  const auto texts = metadata.Texts(key);
  const auto reals = metadata.Reals(key);
  const auto wholes = metadata.Wholes(key);
  Require(!texts.ok() || texts->size() == value.count);
  Require(!reals.ok() || reals->size() == value.count);
  Require(!wholes.ok() || wholes->size() == value.count);
  const int readings = static_cast<int>(metadata.Text(key).ok()) +
                       static_cast<int>(metadata.Flag(key).ok()) +
                       static_cast<int>(metadata.Real(key).ok() || metadata.Whole(key).ok());
  Require(readings == (value.type == yangtuo::GgufType::kArray ? 0 : 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path name_of_file = "fuzz.gguf";
  const auto file = std::as_bytes(std::span(data, size));
  const auto contents = yangtuo::ParseGguf(file, name_of_file);
  if (!contents.ok()) {
    yangtuo::fuzz::CheckRefusal(contents.status());
    return 0;
  }
  for (const auto& [key, value] : contents->metadata.entries()) {
    CheckKey(contents->metadata, key, value);
  }
  for (const yangtuo::StoredTensor& tensor : contents->tensors) {
    yangtuo::fuzz::CheckTensor(tensor, file);
  }
  return 0;
}
