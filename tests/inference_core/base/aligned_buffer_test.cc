#include "inference_core/base/aligned_buffer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

template <typename T>
bool IsAligned(const AlignedBuffer<T>& buffer) {
  return reinterpret_cast<std::uintptr_t>(buffer.data()) % kBufferAlignment == 0;
}

TEST(AlignedBufferTest, IsAlignedAndZeroAtEverySizeClass) {
  for (const std::size_t size : {1UL, 3UL, 17UL, 1000UL, 1'048'576UL, 1'500'001UL}) {
    const AlignedBuffer<float> buffer(size);
    EXPECT_TRUE(IsAligned(buffer)) << size;
    EXPECT_EQ(buffer.size(), size);
    EXPECT_TRUE(std::all_of(buffer.begin(), buffer.end(), [](float v) { return v == 0; })) << size;
  }
}

TEST(AlignedBufferTest, IsZeroAgainAfterUsedMemoryCameBack) {
  for (int round = 0; round < 3; ++round) {
    AlignedBuffer<std::uint8_t> buffer(4096);
    EXPECT_EQ(std::count(buffer.begin(), buffer.end(), 0), 4096);
    std::fill(buffer.begin(), buffer.end(), std::uint8_t{0xFF});
  }
}

TEST(AlignedBufferTest, MovingPassesTheMemoryOn) {
  AlignedBuffer<int> first(10);
  first[9] = 7;
  const int* const memory = first.data();
  AlignedBuffer<int> second = std::move(first);
  EXPECT_EQ(second.data(), memory);
  EXPECT_EQ(second.span().back(), 7);
  AlignedBuffer<int> third;
  EXPECT_TRUE(third.empty());
  third = std::move(second);
  EXPECT_EQ(third.data(), memory);
}

TEST(AlignedBufferTest, RefusesASizeThatCannotBeHad) {
  const auto too_large = std::numeric_limits<std::size_t>::max() / 2;
  EXPECT_EQ(AlignedBuffer<double>::Create(too_large).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(AlignedBuffer<char>::Create(too_large).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(AlignedBufferTest, HoldsNothingAtSizeZero) {
  const auto buffer = AlignedBuffer<float>::Create(0);
  ASSERT_TRUE(buffer.ok());
  EXPECT_TRUE(buffer->span().empty());
}

}  // namespace
}  // namespace yangtuo
