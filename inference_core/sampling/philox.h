#pragma once

#include <array>
#include <cstdint>

namespace yangtuo {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): a
// bijection of the counter for every key. A random number is a function of its name, not of how
// many were drawn before it, so that a sequence can be resumed or recomputed anywhere.
[[nodiscard]] PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key);

// The random number in [0, 1) that belongs to a position of a choice; all 53 bits are random.
[[nodiscard]] double UniformAt(std::uint64_t seed, std::uint32_t choice, std::uint32_t position);

}  // namespace yangtuo
