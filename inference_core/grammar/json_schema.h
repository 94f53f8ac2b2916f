#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// A JSON schema (draft 2020-12, with what is common of draft 7 and OpenAPI) as an expression that
// matches valid JSON only: every text is valid, but not every valid text is matched. What is left
// out: white space other than CompileGrammar's; properties in another order than the schema's, with
// those not listed at the end; numbers of many digits (json_numbers.h); 1.0 for an integer.
//
// Supported: type (also several), properties, required, additionalProperties, items, prefixItems,
// minItems, maxItems, enum, const, anyOf, allOf (see MergeSchemas), $ref within the document
// (recursive too), minLength, maxLength, pattern, format (see MakeString), minimum, maximum and
// their exclusive forms, nullable. oneOf is taken as anyOf: a value may then match several.
// Where a keyword is absent:
//   additionalProperties  only the listed properties; any when none are listed
//   items                 any, but none after prefixItems
//   type                  those that the other keywords are about; without any, all
// A format other than of strings is ignored, as annotations and unknown keywords are.
//
// INVALID_ARGUMENT with the JSON pointer for what is malformed and for every other keyword that
// would change what is valid: not, if, patternProperties, propertyNames, dependent..., contains,
// minProperties, maxProperties, uniqueItems, multipleOf (but 1 for integers), unevaluated...;
// for allOf that cannot be merged and for more than 1,000 properties in one object.
absl::StatusOr<ExpressionId> ParseJsonSchema(std::string_view text, Expressions& expressions);

}  // namespace yangtuo
