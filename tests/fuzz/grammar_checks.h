#pragma once

// What must hold for a grammar from anywhere.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "inference_core/grammar/grammar.h"
#include "inference_core/grammar/grammar_matcher.h"
#include "inference_core/grammar/grammar_vocabulary.h"
#include "tests/fuzz/checks.h"

namespace yangtuo::fuzz {

// The 256 bytes, and pieces that cut across many places of a text.
inline std::shared_ptr<const GrammarVocabulary> GrammarPieces() {
  static const auto vocabulary = [] {
    std::vector<std::string> texts;
    for (int byte = 0; byte < 256; ++byte) {
      texts.emplace_back(1, static_cast<char>(byte));
    }
    for (const char* piece : {"{\"", "\":", "\",\"", "}}", "]}", "[[", "\\u00", "12", "true", "ab",
                              "人工", "\xE4\xBA", "  ", "\n ", "-0.", "e1"}) {
      texts.emplace_back(piece);
    }
    return std::make_shared<const GrammarVocabulary>(std::move(texts));
  }();
  return vocabulary;
}

// It is refused with a message that can be sent, or every way that random choices take through it
// can be gone and never comes to a dead end. Returns a text that is complete, or nothing.
inline std::string CheckGrammar(GrammarKind kind, std::string_view text) {
  const auto grammar = CompileGrammar({.kind = kind, .text = std::string(text)});
  if (!grammar.ok()) {
    Require(grammar.status().code() == absl::StatusCode::kInvalidArgument);
    CheckMessage(grammar.status());
    return {};
  }
  std::minstd_rand random(static_cast<std::uint32_t>(std::hash<std::string_view>()(text)));
  GrammarMatcher matcher(*grammar, GrammarPieces());
  std::string made;
  std::string complete;
  for (int tokens = 0; tokens < 60 && !matcher.MustEnd(); ++tokens) {
    const TokenBits& allowed = matcher.Allowed();
    const std::int32_t count = allowed.Count();
    Require(count > 0);
    auto left = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(count));
    TokenId id = 0;
    while (!allowed.Contains(id) || left-- > 0) {
      ++id;
    }
    Require(matcher.Accept(id).ok());
    made += GrammarPieces()->text(id);
    if (matcher.CanEnd()) {
      complete = made;
    }
  }
  return complete;
}

}  // namespace yangtuo::fuzz
