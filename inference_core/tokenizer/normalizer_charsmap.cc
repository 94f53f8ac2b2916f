#include "inference_core/tokenizer/normalizer_charsmap.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

// A unit of a Darts-clone double array: a leaf holds a value; another unit holds the label it must
// be reached by, and an offset that leads to its children.
constexpr std::uint32_t kLeafBit = 1U << 31;
constexpr std::size_t kLabels = 256;

std::uint32_t ChildOffset(std::uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); }

}  // namespace

absl::Status CheckNormalizerCharsmap(std::string_view charsmap) {
  if (charsmap.empty()) {
    return absl::OkStatus();
  }
  std::uint32_t trie_bytes = 0;
  if (charsmap.size() <= sizeof(trie_bytes)) {
    return absl::DataLossError(absl::StrFormat("its %d bytes hold no trie", charsmap.size()));
  }
  std::memcpy(&trie_bytes, charsmap.data(), sizeof(trie_bytes));
  charsmap.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes >= charsmap.size() || trie_bytes == 0 ||
      trie_bytes % (kLabels * sizeof(std::uint32_t)) != 0) {
    return absl::DataLossError(absl::StrFormat("a trie of %d bytes does not fit into %d bytes",
                                               trie_bytes, charsmap.size()));
  }
  std::vector<std::uint32_t> units(trie_bytes / sizeof(std::uint32_t));
  std::memcpy(units.data(), charsmap.data(), trie_bytes);
  const std::string_view replacements = charsmap.substr(trie_bytes);
  if (replacements.back() != '\0') {
    return absl::DataLossError("its last replacement has no end");
  }
  for (std::size_t i = 0; i < units.size(); ++i) {
    const std::uint32_t unit = units[i];
    if ((unit & kLeafBit) != 0) {
      if ((unit & ~kLeafBit) >= replacements.size()) {
        return absl::DataLossError(absl::StrFormat("unit %d points behind the replacements", i));
      }
    } else if (((i ^ ChildOffset(unit)) | (kLabels - 1)) >= units.size()) {
      // Children of one unit share all but the last 8 bits of their index.
      return absl::DataLossError(absl::StrFormat("unit %d points out of the trie", i));
    }
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
