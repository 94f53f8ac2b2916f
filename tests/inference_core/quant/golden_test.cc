#include <cmath>
#include <cstring>
#include <ostream>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/inference_core/quant/rows.h"
#include "tests/testing/data.h"

namespace yangtuo {

void PrintTo(DType type, std::ostream* out) { *out << NameOf(type); }

namespace {

constexpr std::size_t kRows = 5;  // the first three are blocks of x.f32, the others random
constexpr std::size_t kQuantizedRows = 3;
constexpr std::size_t kCols = 512;

std::string Golden(std::string_view file) {
  return ReadTestFile(SourceFile(absl::StrFormat("tests/inference_core/quant/golden/%s", file)));
}

// What llama.cpp's own code made of the same rows (make_golden.py).
class GoldenBlocksTest : public testing::TestWithParam<DType> {
 protected:
  DType type() const { return GetParam(); }
  std::size_t row_bytes() const { return static_cast<std::size_t>(RowBytes(type(), kCols)); }
  std::vector<std::byte> blocks() const {
    return FromBytes<std::byte>(Golden(absl::StrFormat("%s.blocks", NameOf(type()))));
  }
  std::vector<float> values() const {
    return FromBytes<float>(Golden(absl::StrFormat("%s.f32", NameOf(type()))));
  }
  std::vector<float> x() const { return FromBytes<float>(Golden("x.f32")); }
};

TEST_P(GoldenBlocksTest, MeanTheSameFloatsToTheBit) {
  const std::vector<std::byte> all = blocks();
  const std::vector<float> expected = values();
  ASSERT_EQ(all.size(), kRows * row_bytes());

  for (std::size_t row = 0; row < kRows; ++row) {
    const std::vector<float> y =
        Dequantized(type(), std::span(all).subspan(row * row_bytes(), row_bytes()), kCols);
    EXPECT_EQ(std::memcmp(y.data(), &expected[row * kCols], kCols * sizeof(float)), 0) << row;
  }
}

TEST_P(GoldenBlocksTest, MeanTheSameAtAnyAlignment) {
  const std::vector<std::byte> all = blocks();
  const std::span<const std::byte> row(all.data(), row_bytes());
  const std::vector<float> expected = Dequantized(type(), row, kCols);

  for (std::size_t offset = 1; offset < 4; ++offset) {
    std::vector<std::byte> moved(offset);
    moved.insert(moved.end(), row.begin(), row.end());
    EXPECT_EQ(Dequantized(type(), std::span(moved).subspan(offset), kCols), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GoldenBlocksTest,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                                         DType::kQ5_K, DType::kQ6_K),
                         [](const auto& type) { return std::string(NameOf(type.param)); });

using RoundedBlocksTest = GoldenBlocksTest;

TEST_P(RoundedBlocksTest, AreWrittenToTheByte) {
  const std::vector<std::byte> expected = blocks();
  const std::vector<float> values = x();

  for (std::size_t row = 0; row < kQuantizedRows; ++row) {
    EXPECT_EQ(Quantized(type(), std::span(values).subspan(row * kCols, kCols)),
              std::vector(&expected[row * row_bytes()], &expected[(row + 1) * row_bytes()]));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RoundedBlocksTest, testing::Values(DType::kQ4_0, DType::kQ8_0),
                         [](const auto& type) { return std::string(NameOf(type.param)); });

using SearchedBlocksTest = GoldenBlocksTest;

TEST_P(SearchedBlocksTest, AreCloserThanLlamaCppsOwn) {
  const std::vector<float> peer = values();
  const std::vector<float> all = x();

  for (std::size_t row = 0; row < kQuantizedRows; ++row) {
    const std::span<const float> values = std::span(all).subspan(row * kCols, kCols);
    const std::vector<float> ours = Dequantized(type(), Quantized(type(), values), kCols);
    EXPECT_LT(RelativeError(values, ours),
              RelativeError(values, std::span(peer).subspan(row * kCols, kCols)))
        << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, SearchedBlocksTest, testing::Values(DType::kQ4_K, DType::kQ6_K),
                         [](const auto& type) { return std::string(NameOf(type.param)); });

}  // namespace
}  // namespace yangtuo
