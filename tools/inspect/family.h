#pragma once

#include <cstdint>

namespace yangtuo {

// A published line of models, known by the size of its vocabulary.
struct Family {
  std::int32_t vocab;
  const char* name;
  const char* pairs;  // what goes with such a model
};

// Null for a size that none has.
[[nodiscard]] const Family* FamilyOf(std::int64_t vocab);

}  // namespace yangtuo
