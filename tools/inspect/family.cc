#include "tools/inspect/family.h"

#include <algorithm>
#include <array>

namespace yangtuo {
namespace {

constexpr std::array<Family, 4> kFamilies = {{
    {32000, "LLaMA or Llama-2",
     "LLaMA's own tokenizer (32000 pieces); base of Chinese-LLaMA and Chinese-Alpaca adapters, "
     "which grow it to 49953 or 49954 rows, and of Chinese-LLaMA-2's (55296)"},
    {49953, "Chinese-LLaMA",
     "Chinese-LLaMA's tokenizer (49953 pieces); base of Chinese-Alpaca-Plus and -Pro adapters, "
     "which grow it to 49954 rows. It continues texts: no chat template"},
    {49954, "Chinese-Alpaca",
     "Chinese-Alpaca's tokenizer (49954 pieces, the last one [PAD]) and the alpaca chat templates"},
    {55296, "Chinese-LLaMA-2 or Chinese-Alpaca-2",
     "Chinese-LLaMA-2's tokenizer (55296 pieces); Alpaca-2 models take the alpaca-2 chat "
     "template"},
}};

}  // namespace

const Family* FamilyOf(std::int64_t vocab) {
  const auto* const found =
      std::find_if(kFamilies.begin(), kFamilies.end(),
                   [vocab](const Family& family) { return family.vocab == vocab; });
  return found == kFamilies.end() ? nullptr : found;
}

}  // namespace yangtuo
