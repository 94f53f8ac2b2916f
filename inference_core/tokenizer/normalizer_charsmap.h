#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace yangtuo {

// Whether sentencepiece can follow `charsmap` (NormalizerSpec.precompiled_charsmap) without leaving
// it, whatever the text: the library itself checks only the length in front, and a damaged trie
// makes it read elsewhere. DATA_LOSS says what is wrong. Empty is fine: the identity.
absl::Status CheckNormalizerCharsmap(std::string_view charsmap);

}  // namespace yangtuo
