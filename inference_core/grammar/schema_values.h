#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"
#include "inference_core/grammar/schema_place.h"

namespace yangtuo {

// Compiles the schemas within a schema.
class SchemaValues {
 public:
  virtual ~SchemaValues() = default;
  virtual absl::StatusOr<ExpressionId> Value(const nlohmann::ordered_json& schema,
                                             const SchemaPlace& place) = 0;
};

}  // namespace yangtuo
