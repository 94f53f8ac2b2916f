// JSON schemas: whatever they say, they compile within bounds or are refused, and what comes of
// them is JSON.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/fuzz/grammar_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string made = yangtuo::fuzz::CheckGrammar(yangtuo::GrammarKind::kJsonSchema,
                                                       {reinterpret_cast<const char*>(data), size});
  yangtuo::fuzz::Require(made.empty() || nlohmann::json::accept(made));
  return 0;
}
