#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"
#include "inference_core/grammar/json_expressions.h"
#include "inference_core/grammar/schema_place.h"
#include "inference_core/grammar/schema_values.h"

namespace yangtuo {

// Arrays and objects as their keywords in `schema` say (see ParseJsonSchema).
absl::StatusOr<ExpressionId> MakeArray(const nlohmann::ordered_json& schema,
                                       const SchemaPlace& place, SchemaValues& values,
                                       JsonExpressions& json, Expressions& expressions);
absl::StatusOr<ExpressionId> MakeObject(const nlohmann::ordered_json& schema,
                                        const SchemaPlace& place, SchemaValues& values,
                                        JsonExpressions& json, Expressions& expressions);

// A keyword that is a count; nullopt when it is absent. A largest count beyond 100,000 is taken as
// 100,000; a smallest one is refused.
absl::StatusOr<std::optional<std::int32_t>> CountOf(const nlohmann::ordered_json& schema,
                                                    const char* key, const SchemaPlace& place);

}  // namespace yangtuo
