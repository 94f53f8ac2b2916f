// A sentencepiece model file from anywhere: read, added to, taken apart and made anew. What
// Vocabulary::Parse accepts must also survive all of that, with the same pieces.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "inference_core/tokenizer/merge_tokenizers.h"
#include "inference_core/tokenizer/vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace yangtuo;  // NOLINT(google-build-using-namespace)
  const std::string_view model(reinterpret_cast<const char*>(data), size);
  const auto vocabulary = Vocabulary::Parse(model, "input");
  const auto pieces = ReadModelPieces(model, "input");
  (void)PiecesOfModel(model, "input");
  const auto words = PiecesOfWords(model, "input");
  if (!vocabulary.ok()) {
    return 0;
  }
  if (!pieces.ok() || static_cast<std::int32_t>(pieces->pieces.size()) != vocabulary->size()) {
    std::abort();
  }
  (void)UnreachablePieces(pieces->pieces);
  const BpeSettings settings{.bos_id = vocabulary->bos_id(), .eos_id = vocabulary->eos_id()};
  (void)MakeBpeModel(pieces->pieces, settings, "input");
  if (!words.ok()) {
    return 0;
  }
  const auto merge = MergeTokenizers(model, "input", {*words}, "[PAD]");
  if (merge.ok()) {
    const auto grown = Vocabulary::Parse(merge->model, "merged");
    if (!grown.ok() ||
        grown->size() != vocabulary->size() + static_cast<std::int32_t>(merge->added.size())) {
      std::abort();
    }
  }
  return 0;
}
