#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "inference_core/grammar/grammar_spec.h"
#include "yangtuo/v1/sampling.pb.h"

namespace yangtuo {

// What a request's constraint asks for. INVALID_ARGUMENT: nothing, more than 65,536 bytes, no
// choice or more than 1024, or an empty one. Whether it is a schema, an expression or a grammar is
// CompileGrammar's to say.
absl::StatusOr<GrammarSpec> ToGrammarSpec(const yangtuo::v1::Constraint& constraint);

// The field that it is in: "json_schema".
[[nodiscard]] std::string ConstraintField(const yangtuo::v1::Constraint& constraint);

}  // namespace yangtuo
