#pragma once

#include <string>
#include <vector>

namespace yangtuo {

enum class GrammarKind {
  kJsonObject,  // any JSON object
  kJsonSchema,  // JSON that a schema describes
  kRegex,       // the whole text matches a regular expression
  kGbnf,        // a context-free grammar in llama.cpp's notation
  kChoice,      // one of some literal texts
};

// What an answer must look like. Plain values; CompileGrammar checks them.
struct GrammarSpec {
  GrammarKind kind = GrammarKind::kJsonObject;
  std::string text = {};                  // schema (JSON), expression or grammar; else empty
  std::vector<std::string> choices = {};  // of kChoice only

  bool operator==(const GrammarSpec&) const = default;
};

}  // namespace yangtuo
