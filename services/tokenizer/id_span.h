#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "google/protobuf/repeated_field.h"

namespace yangtuo {

// Ids of a message as the tokenizer takes them. An id above 2^31 becomes negative, hence lies
// outside every vocabulary as it should.
inline std::span<const std::int32_t> IdSpan(
    const google::protobuf::RepeatedField<std::uint32_t>& ids) {
  return {reinterpret_cast<const std::int32_t*>(ids.data()), static_cast<std::size_t>(ids.size())};
}

}  // namespace yangtuo
