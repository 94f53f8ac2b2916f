// Context-free grammars that an answer must match: they compile within bounds or are refused, and
// what comes of them is UTF-8.

#include <cstddef>
#include <cstdint>
#include <string>

#include "inference_core/formats/strict_json.h"
#include "tests/fuzz/grammar_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string made = yangtuo::fuzz::CheckGrammar(yangtuo::GrammarKind::kGbnf,
                                                       {reinterpret_cast<const char*>(data), size});
  yangtuo::fuzz::Require(yangtuo::IsUtf8(made));
  return 0;
}
