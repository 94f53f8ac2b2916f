#include "inference_core/grammar/grammar.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/build_automaton.h"
#include "inference_core/grammar/expression.h"
#include "inference_core/grammar/gbnf_parser.h"
#include "inference_core/grammar/json_expressions.h"
#include "inference_core/grammar/json_schema.h"
#include "inference_core/grammar/regex_parser.h"
#include "inference_core/grammar/simulator.h"

namespace yangtuo {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr std::int32_t kJsonDepth = 63;  // callers of the innermost of 64 objects
constexpr std::int32_t kRuleDepth = 256;

absl::Status CheckSize(const GrammarSpec& spec) {
  std::size_t bytes = spec.text.size();
  for (const std::string& choice : spec.choices) {
    bytes += choice.size();
  }
  if (bytes > kMostBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a grammar of %d bytes: at most %d are supported", bytes, kMostBytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<ExpressionId> MakeChoice(const GrammarSpec& spec, Expressions& expressions) {
  if (spec.choices.empty()) {
    return absl::InvalidArgumentError("a choice of no texts");
  }
  std::vector<ExpressionId> literals;
  for (const std::string& choice : spec.choices) {
    literals.push_back(expressions.Literal(choice));
  }
  return expressions.Choice(std::move(literals));
}

// The body of rule 0.
absl::StatusOr<ExpressionId> MakeRoot(const GrammarSpec& spec, Expressions& expressions) {
  switch (spec.kind) {
    case GrammarKind::kJsonObject:
      return JsonExpressions(expressions).AnyObject();
    case GrammarKind::kRegex:
      return ParseRegex(spec.text, {}, expressions);
    case GrammarKind::kChoice:
      return MakeChoice(spec, expressions);
    case GrammarKind::kJsonSchema:
      return ParseJsonSchema(spec.text, expressions);
    case GrammarKind::kGbnf:
      return ParseGbnf(spec.text, expressions);
  }
  return absl::InvalidArgumentError("unknown kind of grammar");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Grammar>> CompileGrammar(const GrammarSpec& spec) {
  YANGTUO_RETURN_IF_ERROR(CheckSize(spec));
  Expressions expressions;
  const RuleId root = expressions.AddRule("the grammar");
  YANGTUO_ASSIGN_OR_RETURN(const ExpressionId body, MakeRoot(spec, expressions));
  YANGTUO_RETURN_IF_ERROR(expressions.CheckNotFull());
  expressions.DefineRule(root, body);
  const std::int32_t max_depth = spec.kind == GrammarKind::kGbnf ? kRuleDepth : kJsonDepth;
  YANGTUO_ASSIGN_OR_RETURN(Automaton automaton, BuildAutomaton(expressions, max_depth));
  if (Simulator(automaton).Start() == Simulator::kDead) {
    return absl::InvalidArgumentError(
        "the grammar has more ways to begin than can be looked at; write it with fewer "
        "alternatives that match the same");
  }
  return std::make_shared<const Grammar>(std::move(automaton));
}

}  // namespace yangtuo
