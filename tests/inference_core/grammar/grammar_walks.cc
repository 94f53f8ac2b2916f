#include "tests/inference_core/grammar/grammar_walks.h"

#include <algorithm>
#include <gtest/gtest.h>

#include "inference_core/tokenizer/vocabulary.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

std::vector<std::string> AllBytes() {
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) {
    texts.emplace_back(1, static_cast<char>(byte));
  }
  return texts;
}

// Ends a text soon: bytes that close what is open come first.
TokenId Closing(GrammarMatcher& matcher, const GrammarVocabulary& vocabulary, Random& random) {
  const TokenBits& allowed = matcher.Allowed();
  std::vector<TokenId> other;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    if (!allowed.Contains(id)) {
      continue;
    }
    const std::string_view text = vocabulary.text(id);
    if (text == "\"" || text == "}" || text == "]" || text == ")") {
      return id;
    }
    if (text.size() == 1) {
      other.push_back(id);
    }
  }
  return other.empty() ? -1 : other[random() % other.size()];
}

TokenId AnyAllowed(GrammarMatcher& matcher, Random& random) {
  const TokenBits& allowed = matcher.Allowed();
  const std::int32_t count = allowed.Count();
  if (count == 0) {
    return -1;
  }
  auto left = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(count));
  for (TokenId id = 0; id < allowed.size(); ++id) {
    if (allowed.Contains(id) && left-- == 0) {
      return id;
    }
  }
  return -1;
}

}  // namespace

std::shared_ptr<const GrammarVocabulary> ByteVocabulary() {
  static const auto vocabulary = std::make_shared<const GrammarVocabulary>(AllBytes());
  return vocabulary;
}

std::shared_ptr<const GrammarVocabulary> SmallVocabulary() {
  static const auto vocabulary = [] {
    std::vector<std::string> texts = AllBytes();
    for (const char* piece :
         {"",     "\": \"", "\":",    "\", \"",   "\"}",    "{\"",   "{}",    "[]",       "[[",
          "]]",   "}}",     "},",     "]}",       "true",   "false", "null",  "tr",       "ue,",
          "12",   "0.5",    "e+1",    "-1",       "\\\"",   "\\u00", "\\ud8", "3d",       "\\n",
          "abc",  "a",      "ab",     "b",        "abab",   "  ",    "\n  ",  ", ",       ": ",
          " ",    "人工",   "智能",   "\xE4\xBA", "\xBA人", "name",  "id",    "\xF0\x9F", "2026-",
          "T12:", "@b.c",   "name\"", "\"a\":1",  "00"}) {
      texts.emplace_back(piece);
    }
    return std::make_shared<const GrammarVocabulary>(std::move(texts));
  }();
  return vocabulary;
}

std::shared_ptr<const GrammarVocabulary> RealVocabulary() {
  static const auto vocabulary = []() -> std::shared_ptr<const GrammarVocabulary> {
    const auto path = SharedData("tokenizers/chinese-llama-2.model");
    if (!path.has_value()) {
      return nullptr;
    }
    const auto parsed = Vocabulary::Parse(ReadTestFile(*path), "chinese-llama-2");
    std::vector<std::string> texts;
    for (std::int32_t id = 0; id < parsed->size(); ++id) {
      texts.push_back(parsed->piece(id).text);
    }
    return std::make_shared<const GrammarVocabulary>(std::move(texts));
  }();
  return vocabulary;
}

std::shared_ptr<const Grammar> MustCompile(const GrammarSpec& spec) {
  auto grammar = CompileGrammar(spec);
  EXPECT_TRUE(grammar.ok()) << grammar.status() << "\n" << spec.text;
  return grammar.ok() ? *std::move(grammar) : nullptr;
}

std::string WhyRefused(const GrammarSpec& spec) {
  const auto grammar = CompileGrammar(spec);
  if (grammar.ok()) {
    return "(compiles)";
  }
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(grammar.status().message());
}

bool Matches(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  GrammarMatcher matcher(grammar, ByteVocabulary());
  for (const char c : text) {
    if (!matcher.Accept(static_cast<std::uint8_t>(c)).ok()) {
      return false;
    }
  }
  return matcher.CanEnd();
}

bool MatchesAsTokens(const std::shared_ptr<const Grammar>& grammar,
                     const std::shared_ptr<const GrammarVocabulary>& vocabulary,
                     std::string_view text) {
  GrammarMatcher matcher(grammar, vocabulary);
  while (!text.empty()) {
    TokenId best = -1;
    for (TokenId id = 0; id < vocabulary->size(); ++id) {
      const std::string_view piece = vocabulary->text(id);
      if (!piece.empty() && text.substr(0, piece.size()) == piece &&
          (best < 0 || piece.size() > vocabulary->text(best).size())) {
        best = id;
      }
    }
    if (best < 0 || !matcher.Allowed().Contains(best) || !matcher.Accept(best).ok()) {
      return false;
    }
    text.remove_prefix(vocabulary->text(best).size());
  }
  return matcher.CanEnd();
}

std::optional<std::string> RandomText(const std::shared_ptr<const Grammar>& grammar,
                                      const std::shared_ptr<const GrammarVocabulary>& vocabulary,
                                      Random& random, int patience) {
  GrammarMatcher matcher(grammar, vocabulary);
  std::string text;
  constexpr int kMostTokens = 20'000;
  for (int tokens = 0; tokens < kMostTokens; ++tokens) {
    if (matcher.CanEnd() && (tokens >= patience || random() % 8 == 0)) {
      return text;
    }
    if (matcher.MustEnd()) {
      return text;
    }
    const TokenId id =
        tokens < patience ? AnyAllowed(matcher, random) : Closing(matcher, *vocabulary, random);
    if (id < 0) {
      ADD_FAILURE() << "nothing allowed after: " << text;
      return std::nullopt;
    }
    if (const absl::Status accepted = matcher.Accept(id); !accepted.ok()) {
      ADD_FAILURE() << accepted << " after: " << text;
      return std::nullopt;
    }
    text += vocabulary->text(id);
  }
  ADD_FAILURE() << "does not end: " << text.substr(0, 500);
  return std::nullopt;
}

void ExpectAllowedIsWhatAcceptTakes(const std::shared_ptr<const Grammar>& grammar,
                                    const std::shared_ptr<const GrammarVocabulary>& vocabulary,
                                    Random& random, int tokens) {
  std::vector<TokenId> text;
  for (int i = 0; i < tokens; ++i) {
    const auto replay = [&] {
      GrammarMatcher matcher(grammar, vocabulary);
      for (const TokenId id : text) {
        EXPECT_TRUE(matcher.Accept(id).ok());
      }
      return matcher;
    };
    GrammarMatcher matcher = replay();
    const TokenBits allowed = matcher.Allowed();
    for (TokenId id = 0; id < vocabulary->size(); ++id) {
      // Byte by byte, so that nothing of the pass over the trie is shared.
      GrammarMatcher bytes(grammar, ByteVocabulary());
      for (const TokenId before : text) {
        for (const char c : vocabulary->text(before)) {
          EXPECT_TRUE(bytes.Accept(static_cast<std::uint8_t>(c)).ok());
        }
      }
      const std::string_view piece = vocabulary->text(id);
      const bool fits = !piece.empty() && std::all_of(piece.begin(), piece.end(), [&](char c) {
        return bytes.Accept(static_cast<std::uint8_t>(c)).ok();
      });
      ASSERT_EQ(allowed.Contains(id), fits) << "token " << id << " '" << piece << "'";
    }
    const TokenId next = AnyAllowed(matcher, random);
    if (next < 0) {
      ASSERT_TRUE(matcher.CanEnd());
      return;
    }
    text.push_back(next);
  }
}

}  // namespace yangtuo
