#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"

namespace yangtuo {

// One schema for what both allow ("allOf"), as far as keywords can say it: bounds are narrowed,
// types and values intersected, properties joined (a property of both is merged in turn),
// alternatives multiplied. Neither has a $ref, an allOf or a oneOf. INVALID_ARGUMENT naming the
// keyword that cannot be merged; its place is the caller's to name.
absl::StatusOr<nlohmann::ordered_json> MergeSchemas(const nlohmann::ordered_json& a,
                                                    const nlohmann::ordered_json& b);

}  // namespace yangtuo
