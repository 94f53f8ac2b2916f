#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "inference_core/grammar/automaton.h"
#include "inference_core/grammar/grammar_spec.h"
#include "inference_core/grammar/mask_cache.h"

namespace yangtuo {

// A compiled constraint: byte automata that call each other (see automaton.h). Immutable to its
// users and thread-safe; GrammarMatcher follows one text through it. Also keeps the masks that
// matchers computed, for the next ones.
class Grammar {
 public:
  explicit Grammar(Automaton automaton) : automaton_(std::move(automaton)) {}

  [[nodiscard]] const Automaton& automaton() const { return automaton_; }
  // Masks found so far, by vocabulary and place in the grammar.
  [[nodiscard]] MaskCache& masks() const { return masks_; }
  // What the automaton occupies; masks come on top (MaskCache bounds them).
  [[nodiscard]] std::size_t memory_bytes() const { return automaton_.memory_bytes(); }

 private:
  Automaton automaton_;
  mutable MaskCache masks_;
};

// INVALID_ARGUMENT for what is malformed, not supported, matches no text at all or is too large;
// the message says where and what. Bounded whatever the spec says: text of 1 MiB, nesting of 100,
// and a budget of states and steps that ends within a second or two.
//
// kJsonObject: one object of RFC 8259, nested at most 64 deep. White space only where pretty
// printers put it: nothing or a space after ':', and nothing, a space, or a line break with up to
// 32 spaces or 8 tabs after '{' '[' ',' and before '}' ']'. Numbers have at most 20 digits before
// and after the point and lie within the range of a double; \u escapes of surrogates come in pairs.
// kJsonSchema: see json_schema.h. kRegex: see regex_parser.h. kGbnf: see gbnf_parser.h.
absl::StatusOr<std::shared_ptr<const Grammar>> CompileGrammar(const GrammarSpec& spec);

}  // namespace yangtuo
