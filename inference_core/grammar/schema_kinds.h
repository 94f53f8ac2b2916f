#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"
#include "inference_core/grammar/json_expressions.h"
#include "inference_core/grammar/schema_place.h"
#include "inference_core/grammar/schema_values.h"

namespace yangtuo {

// A schema that has neither references nor alternatives: values of its types, or those it lists.
absl::StatusOr<ExpressionId> MakeKind(const nlohmann::ordered_json& schema,
                                      const SchemaPlace& place, SchemaValues& values,
                                      JsonExpressions& json, Expressions& expressions);

}  // namespace yangtuo
