// Arbitrary bytes as a model of llama2.c: never a crash, and whatever is accepted can be read.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>

#include "inference_core/formats/llama2c.h"
#include "tests/fuzz/checks.h"

namespace {

using yangtuo::fuzz::Require;

void CheckFile(const std::string& bytes) {
  static const std::filesystem::path name_of_file = "fuzz.bin";
  const auto file = std::as_bytes(std::span(bytes));
  const auto contents = yangtuo::ParseLlama2c(file, name_of_file);
  if (!contents.ok()) {
    yangtuo::fuzz::CheckRefusal(contents.status());
    return;
  }
  Require(contents->tensors.size() ==
          static_cast<std::size_t>(contents->layers) * 9 + 2 + (contents->tied_embeddings ? 0 : 1));
  for (const yangtuo::StoredTensor& tensor : contents->tensors) {
    yangtuo::fuzz::CheckTensor(tensor, file);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  CheckFile(bytes);
  // Again with as many weights as small sizes take, which a mutation hardly ever hits.
  constexpr std::size_t kSizes = 7;
  if (size >= kSizes * sizeof(std::int32_t)) {
    std::int32_t sizes[kSizes];
    std::memcpy(sizes, data, sizeof(sizes));
    std::int64_t floats = 0;
    for (std::int32_t& s : sizes) {
      s %= 24;
    }
    const auto [hidden, ffn, layers, heads, kv_heads, vocab, context] = sizes;
    if (hidden < 1 || ffn < 1 || layers < 1 || heads < 1 || kv_heads < 1 || vocab == 0 ||
        context < 1) {
      return 0;
    }
    const std::int64_t width = std::int64_t{hidden} / heads;
    floats = std::int64_t{hidden} * (vocab > 0 ? vocab : -2 * vocab) + hidden +
             std::int64_t{layers} * hidden * (2 + 2 * hidden + 2 * width * kv_heads + 3 * ffn) +
             std::int64_t{context} * (width / 2) * 2;
    std::string file(reinterpret_cast<const char*>(sizes), sizeof(sizes));
    file.resize(file.size() + static_cast<std::size_t>(floats) * sizeof(float), 'x');
    CheckFile(file);
  }
  return 0;
}
