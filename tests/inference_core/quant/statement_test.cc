#include <array>
#include <cmath>
#include <cstdio>
#include <memory>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/inference_core/quant/rows.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

constexpr std::size_t kCols = 1024;

// Rows that meet the rules' corners: ties, equal magnitudes, zeros, outliers, tiny numbers.
std::vector<float> CornerRows() {
  std::vector<float> x = GaussianRow(8 * kCols, 11);
  const auto row = [&](std::size_t i) { return std::span(x).subspan(i * kCols, kCols); };
  for (std::size_t i = 0; i < kCols; ++i) {
    row(1)[i] = 0.5F * static_cast<float>(i * 37 % 255) - 63.5F;  // halves of a scale of one
    row(2)[i] = i % 2 == 0 ? 0.25F : -0.25F;
    row(3)[i] = 0.0F;
    row(4)[i] *= i % 53 == 0 ? 100.0F : 1.0F;
    row(5)[i] *= 1e-5F;   // scales that are subnormal in f16
    row(6)[i] *= 1e-37F;  // and in f32
    row(7)[i] = static_cast<float>(static_cast<int>(i % 33) - 16) * 0.5F;
  }
  return x;
}

std::string NumpyRows(DType type, const std::vector<float>& x) {
  const TempDir folder;
  const std::filesystem::path file = folder.path() / "x.f32";
  WriteTestFile(file, {reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float)});
  const std::string command =
      absl::StrFormat("%s %s %s %d %s", YANGTUO_PYTHON,
                      SourceFile("tests/inference_core/quant/numpy_blocks.py").string(),
                      std::string(NameOf(type)), kCols, file.string());
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string bytes;
  std::array<char, 65536> buffer;
  while (const std::size_t count = fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    bytes.append(buffer.data(), count);
  }
  return bytes;
}

TEST(StatementTest, RoundedTypesAreWhatNumpySaysToTheByte) {
  const std::vector<float> x = CornerRows();
  for (const DType type : {DType::kQ4_0, DType::kQ8_0, DType::kInt8}) {
    const std::string expected = NumpyRows(type, x);
    if (expected.empty()) {
      GTEST_SKIP() << "no numpy for " << YANGTUO_PYTHON;
    }
    const auto row_bytes = static_cast<std::size_t>(RowBytes(type, kCols));
    ASSERT_EQ(expected.size(), row_bytes * (x.size() / kCols));
    const auto all = FromBytes<std::byte>(expected);
    for (std::size_t row = 0; row < x.size() / kCols; ++row) {
      EXPECT_EQ(Quantized(type, std::span(x).subspan(row * kCols, kCols)),
                std::vector(all.data() + row * row_bytes, all.data() + (row + 1) * row_bytes))
          << NameOf(type) << " row " << row;
    }
  }
}

}  // namespace
}  // namespace yangtuo
