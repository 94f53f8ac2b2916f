#include "inference_core/kernels/linear.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ostream>
#include <string>
#include <vector>

#include "inference_core/base/float16.h"
#include "inference_core/kernels/reference/reference.h"
#include "inference_core/kernels/row_policy.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

using ::testing::HasSubstr;

StoredMatrix Stored(const std::vector<float>& values, std::int64_t out, std::int64_t in) {
  return {.data = reinterpret_cast<const std::byte*>(values.data()),
          .dtype = DType::kF32,
          .out = out,
          .in = in};
}

ConstMatrix AsMatrix(const std::vector<float>& values, std::int64_t cols) {
  return ConstMatrix(values.data(), {static_cast<std::int64_t>(values.size()) / cols, cols});
}
Matrix AsMatrix(std::vector<float>& values, std::int64_t cols) {
  return Matrix(values.data(), {static_cast<std::int64_t>(values.size()) / cols, cols});
}

bool SameBits(const float* a, const float* b, std::int64_t count) {
  return std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(float)) == 0;
}

// The policy that the self-test finds for one shape here.
RowPolicy PolicyFor(MatmulType type, std::int64_t in, std::int64_t out, int threads) {
  const MatmulShape shape{.in = in, .out = out};
  const auto finding =
      FindRowPolicy({.type = type, .shapes = {&shape, 1}, .threads = threads, .max_rows = 300});
  EXPECT_TRUE(finding.ok()) << finding.status();
  return finding.ok() ? finding->policy : RowPolicy{};
}

// False where the CPU, or DNNL_MAX_CPU_ISA, has no bf16 at all.
bool Supports(MatmulType type) {
  return MatmulWorkspace::Create({.type = type, .row_policy = {}, .threads = 1}).ok();
}

struct Case {
  std::int64_t tokens;
  std::int64_t in;
  std::int64_t out;
  MatmulType type;
};

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return std::to_string(c.tokens) + "x" + std::to_string(c.in) + "x" + std::to_string(c.out) +
         (c.type == MatmulType::kF32 ? "_f32" : "_bf16");
}
void PrintTo(const Case& c, std::ostream* out) {
  *out << NameOf(::testing::TestParamInfo<Case>(c, 0));
}

class LinearShapes : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!Supports(GetParam().type)) {
      GTEST_SKIP() << "no such products on this CPU";
    }
  }
};

// f32: sums of up to 688 terms of size 1 differ from double by less than 1e-3 * sqrt(in) * 2^-10.
// bf16: operands are rounded first, so the reference gets rounded operands too.
TEST_P(LinearShapes, AgreesWithTheReferenceOnRoundedOperands) {
  const auto [tokens, in, out, type] = GetParam();
  std::vector<float> x = RandomFloats(tokens * in, 1);
  std::vector<float> weight = RandomFloats(out * in, 2);
  auto workspace = MatmulWorkspace::Create(
      {.type = type, .row_policy = PolicyFor(type, in, out, 2), .threads = 2});
  ASSERT_TRUE(workspace.ok()) << workspace.status();
  const StoredMatrix stored = Stored(weight, out, in);
  const auto linear = Linear::Pack({&stored, 1}, *workspace);
  ASSERT_TRUE(linear.ok()) << linear.status();

  std::vector<float> y(static_cast<std::size_t>(tokens * out));
  ASSERT_TRUE(linear->Run(AsMatrix(x, in), AsMatrix(y, out), *workspace).ok());

  if (type == MatmulType::kBF16) {
    for (std::vector<float>* values : {&x, &weight}) {
      for (float& value : *values) {
        value = Bf16ToFloat(FloatToBf16(value));
      }
    }
  }
  const std::vector<double> expected =
      reference::Linear(x, weight, {.tokens = tokens, .in = in, .out = out});
  const double tolerance = 3e-6 * std::sqrt(static_cast<double>(in)) + 1e-6;
  for (std::size_t i = 0; i < y.size(); ++i) {
    ASSERT_NEAR(y[i], expected[i], tolerance * 4) << "element " << i;
  }
}

TEST_P(LinearShapes, GivesARowTheSameBitsInEveryCallUnderTheFoundPolicy) {
  const auto [tokens, in, out, type] = GetParam();
  const std::vector<float> x = RandomFloats(tokens * in, 3);
  const std::vector<float> weight = RandomFloats(out * in, 4);
  const RowPolicy policy = PolicyFor(type, in, out, 2);
  auto single = MatmulWorkspace::Create({.type = type, .row_policy = policy, .threads = 1});
  auto team = MatmulWorkspace::Create({.type = type, .row_policy = policy, .threads = 2});
  ASSERT_TRUE(single.ok() && team.ok());
  const StoredMatrix stored = Stored(weight, out, in);
  const auto linear = Linear::Pack({&stored, 1}, *team);
  ASSERT_TRUE(linear.ok()) << linear.status();
  std::vector<float> together(static_cast<std::size_t>(tokens * out));
  ASSERT_TRUE(linear->Run(AsMatrix(x, in), AsMatrix(together, out), *team).ok());

  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<float> alone(static_cast<std::size_t>(out));
    ASSERT_TRUE(linear
                    ->Run(ConstMatrix(x.data() + t * in, {1, in}), AsMatrix(alone, out),
                          t % 2 == 0 ? *single : *team)
                    .ok());
    ASSERT_TRUE(SameBits(alone.data(), together.data() + t * out, out))
        << "row " << t << " under " << policy.Name();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Odd, LinearShapes,
    ::testing::Values(Case{1, 64, 64, MatmulType::kF32}, Case{5, 80, 517, MatmulType::kF32},
                      Case{33, 172, 64, MatmulType::kF32}, Case{300, 64, 344, MatmulType::kF32},
                      Case{17, 256, 768, MatmulType::kF32}, Case{2, 688, 257, MatmulType::kF32},
                      Case{1, 64, 64, MatmulType::kBF16}, Case{5, 80, 517, MatmulType::kBF16},
                      Case{33, 172, 64, MatmulType::kBF16}, Case{3, 20, 1, MatmulType::kBF16}),
    NameOf);

TEST(LinearTest, ReadsEveryStoredTypeAtOddAddresses) {
  constexpr std::int64_t kIn = 24;
  constexpr std::int64_t kOut = 7;
  std::vector<float> weight = RandomFloats(kIn * kOut, 5);
  for (float& value : weight) {
    value = Bf16ToFloat(FloatToBf16(value));  // exact in all three types at this size
    value = F16ToFloat(FloatToF16(value));
  }
  const std::vector<float> x = RandomFloats(3 * kIn, 6);
  auto workspace = MatmulWorkspace::Create({});
  ASSERT_TRUE(workspace.ok());
  std::vector<std::vector<float>> results;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::string bytes(1, '\0');
    for (const float value : weight) {
      const std::uint16_t half = dtype == DType::kF16 ? FloatToF16(value) : FloatToBf16(value);
      bytes.append(dtype == DType::kF32 ? reinterpret_cast<const char*>(&value)
                                        : reinterpret_cast<const char*>(&half),
                   static_cast<std::size_t>(SizeOf(dtype)));
    }
    const StoredMatrix stored{.data = reinterpret_cast<const std::byte*>(bytes.data()) + 1,
                              .dtype = dtype,
                              .out = kOut,
                              .in = kIn};
    const auto linear = Linear::Pack({&stored, 1}, *workspace);
    ASSERT_TRUE(linear.ok()) << linear.status();
    std::vector<float> y(3 * kOut);
    ASSERT_TRUE(linear->Run(AsMatrix(x, kIn), AsMatrix(y, kOut), *workspace).ok());
    results.push_back(y);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(LinearTest, PutsPartsOneBelowTheOther) {
  const std::vector<float> top = RandomFloats(30 * 16, 7);
  const std::vector<float> bottom = RandomFloats(700 * 16, 8);
  const std::vector<float> x = RandomFloats(16, 9);
  auto workspace = MatmulWorkspace::Create({});
  ASSERT_TRUE(workspace.ok());
  const std::vector<StoredMatrix> parts = {Stored(top, 30, 16), Stored(bottom, 700, 16)};
  const auto joined = Linear::Pack(parts, *workspace);
  ASSERT_TRUE(joined.ok()) << joined.status();
  std::vector<float> y(730);
  ASSERT_TRUE(joined->Run(AsMatrix(x, 16), AsMatrix(y, 730), *workspace).ok());
  for (std::size_t o = 0; o < 730; ++o) {
    const std::vector<float>& part = o < 30 ? top : bottom;
    const std::size_t row = o < 30 ? o : o - 30;
    const std::vector<double> expected = reference::Linear(x, std::span(part).subspan(row * 16, 16),
                                                           {.tokens = 1, .in = 16, .out = 1});
    ASSERT_NEAR(y[o], expected[0], 1e-5) << o;
  }
}

TEST(LinearTest, NamesBothShapesWhenTheyDoNotFit) {
  const std::vector<float> weight = RandomFloats(2 * 3, 10);
  auto workspace = MatmulWorkspace::Create({});
  ASSERT_TRUE(workspace.ok());
  const StoredMatrix stored = Stored(weight, 2, 3);
  const auto linear = Linear::Pack({&stored, 1}, *workspace);
  ASSERT_TRUE(linear.ok());
  std::vector<float> x(4);
  std::vector<float> y(2);
  const absl::Status status = linear->Run(AsMatrix(x, 4), AsMatrix(y, 2), *workspace);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Linear[3 -> 2] given x [1, 4]"));
}

TEST(LinearTest, KeepsABoundedNumberOfPrimitives) {
  const std::vector<float> weight = RandomFloats(8 * 8, 11);
  auto workspace = MatmulWorkspace::Create({});
  ASSERT_TRUE(workspace.ok());
  const StoredMatrix stored = Stored(weight, 8, 8);
  const auto linear = Linear::Pack({&stored, 1}, *workspace);
  ASSERT_TRUE(linear.ok());
  std::vector<float> x(1100 * 8, 1.0F);
  std::vector<float> y(1100 * 8);
  for (std::int64_t rows = 1; rows <= 1100; ++rows) {
    ASSERT_TRUE(
        linear->Run(ConstMatrix(x.data(), {rows, 8}), Matrix(y.data(), {rows, 8}), *workspace)
            .ok());
  }
  EXPECT_EQ(workspace->cached_primitives(), 1024);
}

TEST(RowPolicyTest, TilesHoldOnEveryInstructionSet) {
  std::uint32_t fingerprint = 0;
  const MatmulShape shape{.in = 172, .out = 300};
  const auto holds =
      RowPolicyHolds({.type = MatmulType::kF32, .shapes = {}, .threads = 2, .max_rows = 100}, shape,
                     {.min_rows = 1, .tile_rows = 4}, fingerprint);
  ASSERT_TRUE(holds.ok()) << holds.status();
  EXPECT_TRUE(*holds);
  EXPECT_NE(fingerprint, 0U);
}

TEST(RowPolicyTest, FindsAPolicyWithAStableFingerprint) {
  const MatmulShape shapes[] = {{.in = 64, .out = 128}, {.in = 80, .out = 517}};
  const RowPolicyQuestion question{
      .type = MatmulType::kF32, .shapes = shapes, .threads = 2, .max_rows = 64};
  const auto first = FindRowPolicy(question);
  const auto again = FindRowPolicy(question);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(first->policy, again->policy);
  EXPECT_EQ(first->fingerprint, again->fingerprint);
  RecordProperty("policy", first->policy.Name());
}

TEST(RowPolicyTest, FollowsTheInstructionSet) {
  const MatmulShape shapes[] = {{.in = 64, .out = 256}, {.in = 768, .out = 256}};
  const auto found =
      FindRowPolicy({.type = MatmulType::kF32, .shapes = shapes, .threads = 2, .max_rows = 64});
  ASSERT_TRUE(found.ok());
  if (MatmulInstructionSet(MatmulType::kF32, IntegerPath::kFastest).starts_with("avx512")) {
    EXPECT_EQ(found->policy.Name(), "any-rows");
  } else if (MatmulInstructionSet(MatmulType::kF32, IntegerPath::kFastest) == "avx2") {
    EXPECT_EQ(found->policy.Name(), "4-row-tiles");
  }
}

}  // namespace
}  // namespace yangtuo::kernels
