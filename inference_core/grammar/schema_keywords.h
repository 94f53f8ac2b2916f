#pragma once

#include <string_view>

namespace yangtuo {

// Keywords of JSON schemas by what is done with them. Names that are no keyword are ignored, as
// the standard wants it.

// Says something about the schema, not about what is valid.
[[nodiscard]] bool IsAnnotation(std::string_view keyword);
// Changes what is valid, and is not supported.
[[nodiscard]] bool IsUnsupported(std::string_view keyword);
// The type that the keyword says something about ("string"); empty: of no one type.
[[nodiscard]] std::string_view TypeOfKeyword(std::string_view keyword);
// Changes what is valid, and is supported.
[[nodiscard]] bool IsAssertion(std::string_view keyword);

}  // namespace yangtuo
