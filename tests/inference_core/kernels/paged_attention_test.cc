#include "inference_core/kernels/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "inference_core/base/float16.h"
#include "inference_core/kernels/reference/reference.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

struct Shape {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
};

struct Case {
  Shape shape;
  KvType type;
};

void PrintTo(const Case& param, std::ostream* out) {
  *out << param.shape.heads << "heads_" << param.shape.kv_heads << "kv_" << param.shape.head_dim
       << "dim_" << NameOf(param.type);
}
std::string NameOfCase(const ::testing::TestParamInfo<Case>& info) {
  return ::testing::PrintToString(info.param);
}

// What this CPU can be made to run.
std::vector<AttentionPath> Paths() {
  std::vector<AttentionPath> paths;
  for (const AttentionPath path : {AttentionPath::kPortable, AttentionPath::kAvx2,
                                   AttentionPath::kAvx512, AttentionPath::kAvx512Bf16}) {
    if (AttentionKernelsOf(path) != nullptr) {
      paths.push_back(path);
    }
  }
  return paths;
}

struct Way {
  std::int64_t chunk = 1 << 20;  // rows of the prompt computed at once
  int threads = 1;
  AttentionPath path = AttentionPath::kFastest;
};

// One sequence of `positions` tokens whose queries, keys and values are random rows, in blocks
// scattered over memory that is otherwise full of NaN.
class Sequence {
 public:
  Sequence(const Case& param, std::int64_t positions, std::uint32_t seed)
      : shape_(param.shape),
        type_(param.type),
        positions_(positions),
        q_(RandomFloats(positions * shape_.heads * shape_.head_dim, seed)),
        k_(RandomFloats(positions * shape_.kv_heads * shape_.head_dim, seed + 1)),
        v_(RandomFloats(positions * shape_.kv_heads * shape_.head_dim, seed + 2)),
        blocks_(static_cast<std::size_t>((positions + kBlockPositions - 1) / kBlockPositions)),
        memory_(static_cast<std::size_t>(Layout().layer_bytes())) {
    std::iota(blocks_.begin(), blocks_.end(), 0);
    std::shuffle(blocks_.begin(), blocks_.end(), std::mt19937(seed));
  }

  [[nodiscard]] KvLayout Layout() const {
    return {.type = type_,
            .kv_heads = shape_.kv_heads,
            .head_dim = shape_.head_dim,
            .blocks = static_cast<std::int64_t>(blocks_.size())};
  }
  [[nodiscard]] std::vector<float>& queries() { return q_; }
  [[nodiscard]] std::vector<float>& keys() { return k_; }
  [[nodiscard]] std::vector<float>& values() { return v_; }

  // Attention of all rows, stored and computed chunk by chunk.
  [[nodiscard]] std::vector<float> Run(const Way& way) {
    std::fill(memory_.begin(), memory_.end(), std::byte{0xFF});
    const std::int64_t width = shape_.heads * shape_.head_dim;
    const std::int64_t kv_width = shape_.kv_heads * shape_.head_dim;
    PagedAttention attention({.kv = Layout(),
                              .heads = shape_.heads,
                              .max_positions = positions_,
                              .threads = way.threads,
                              .path = way.path});
    std::vector<float> y(q_.size());
    for (std::int64_t first = 0; first < positions_; first += way.chunk) {
      const std::int64_t rows = std::min(way.chunk, positions_ - first);
      const SequenceRows batch{
          .first_row = 0, .rows = rows, .first_position = first, .blocks = blocks_};
      StoreKeysAndValues(Layout(), {&batch, 1},
                         {.keys = {k_.data() + first * kv_width, rows, kv_width, kv_width},
                          .values = {v_.data() + first * kv_width, rows, kv_width, kv_width}},
                         memory_.data(), way.threads);
      attention.Plan({&batch, 1});
      attention.Run({q_.data() + first * width, rows, width, width}, memory_.data(),
                    {y.data() + first * width, rows, width, width});
    }
    return y;
  }

  // By plain loops, of keys and values as they are kept, and queries as they are rounded to bf16.
  [[nodiscard]] std::vector<double> Expected(std::int64_t position, std::int64_t head) const {
    const std::int64_t kv_head = head / (shape_.heads / shape_.kv_heads);
    const auto dim = static_cast<std::size_t>(shape_.head_dim);
    std::vector<float> keys;
    std::vector<float> values;
    for (std::int64_t p = 0; p <= position; ++p) {
      const auto at = static_cast<std::size_t>((p * shape_.kv_heads + kv_head) * shape_.head_dim);
      AppendKept(std::span(k_).subspan(at, dim), keys);
      AppendKept(std::span(v_).subspan(at, dim), values);
    }
    const auto at = static_cast<std::size_t>((position * shape_.heads + head) * shape_.head_dim);
    std::vector<float> query(q_.begin() + static_cast<std::ptrdiff_t>(at),
                             q_.begin() + static_cast<std::ptrdiff_t>(at + dim));
    if (type_ == KvType::kBf16) {
      const float scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim));
      for (float& x : query) {
        x = Bf16ToFloat(FloatToBf16(x * scale)) / scale;
      }
    }
    return reference::Attention(query, keys, values);
  }

  void ExpectReference(const std::vector<float>& y, std::int64_t position) const {
    // Weights are rounded: to 8 bits for bf16, to 15 (and queries too) for int8.
    const double tolerance = type_ == KvType::kF32 ? 3e-6 : type_ == KvType::kBf16 ? 0x1p-8 : 2e-4;
    for (std::int64_t head = 0; head < shape_.heads; ++head) {
      const std::vector<double> expected = Expected(position, head);
      const auto at = static_cast<std::size_t>((position * shape_.heads + head) * shape_.head_dim);
      for (std::size_t d = 0; d < expected.size(); ++d) {
        ASSERT_NEAR(y[at + d], expected[d], tolerance) << position << " " << head << " " << d;
      }
    }
  }

 private:
  void AppendKept(std::span<const float> x, std::vector<float>& to) const {
    float largest = 0.0F;
    for (const float value : x) {
      largest = std::max(largest, std::abs(value));
    }
    for (const float value : x) {
      to.push_back(type_ == KvType::kF32    ? value
                   : type_ == KvType::kBf16 ? Bf16ToFloat(FloatToBf16(value))
                   : largest == 0.0F
                       ? 0.0F
                       : std::nearbyint(value * (127.0F / largest)) * (largest / 127.0F));
    }
  }

  Shape shape_;
  KvType type_;
  std::int64_t positions_;
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
  std::vector<std::int32_t> blocks_;
  std::vector<std::byte> memory_;
};

std::vector<Case> Cases(const std::vector<Shape>& shapes) {
  std::vector<Case> cases;
  for (const Shape& shape : shapes) {
    for (const KvType type : kKvTypes) {
      cases.push_back({shape, type});
    }
  }
  return cases;
}

// Bits, so that NaN equals NaN.
bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

class AttentionShapes : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Families, AttentionShapes,
                         ::testing::ValuesIn(Cases({{1, 1, 2},
                                                    {3, 3, 4},
                                                    {8, 4, 8},
                                                    {6, 2, 20},
                                                    {4, 4, 32},
                                                    {10, 2, 34},
                                                    {7, 1, 64},
                                                    {8, 1, 128},
                                                    {2, 1, 256}})),
                         NameOfCase);

TEST_P(AttentionShapes, AgreesWithTheReferenceOnEveryInstructionSet) {
  constexpr std::int64_t kPositions = 101;
  Sequence sequence(GetParam(), kPositions, 1);
  for (const AttentionPath path : Paths()) {
    SCOPED_TRACE(AttentionKernelsOf(path)->name);
    const std::vector<float> y = sequence.Run({.threads = 2, .path = path});
    for (std::int64_t position = 0; position < kPositions; ++position) {
      sequence.ExpectReference(y, position);
    }
  }
}

TEST_P(AttentionShapes, EveryInstructionSetGivesTheSameBits) {
  Sequence sequence(GetParam(), 101, 3);
  const std::vector<float> plain = sequence.Run({.path = AttentionPath::kPortable});
  for (const AttentionPath path : Paths()) {
    EXPECT_TRUE(SameBits(sequence.Run({.path = path}), plain)) << AttentionKernelsOf(path)->name;
  }
}

TEST_P(AttentionShapes, GivesTheSameBitsHoweverThePromptIsCutAndOnAnyThreads) {
  Sequence sequence(GetParam(), 101, 2);
  const std::vector<float> at_once = sequence.Run({});
  for (const std::int64_t chunk : {1, 3, 4, 7, 32, 33, 100}) {
    EXPECT_TRUE(SameBits(sequence.Run({.chunk = chunk, .threads = 2}), at_once))
        << "chunks of " << chunk;
  }
}

class LongContexts : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Families, LongContexts,
                         ::testing::ValuesIn(Cases({{2, 1, 48}, {8, 2, 16}})), NameOfCase);

TEST_P(LongContexts, AgreeWithTheReferenceAcrossSpans) {
  constexpr std::int64_t kPositions = 2 * kSpanPositions + 77;
  Sequence sequence(GetParam(), kPositions, 4);
  for (const AttentionPath path : Paths()) {
    SCOPED_TRACE(AttentionKernelsOf(path)->name);
    const std::vector<float> y = sequence.Run({.threads = 2, .path = path});
    for (const std::int64_t position :
         {kSpanPositions - 2, kSpanPositions - 1, kSpanPositions, kSpanPositions + 1,
          2 * kSpanPositions - 1, 2 * kSpanPositions, kPositions - 1}) {
      sequence.ExpectReference(y, position);
    }
  }
}

// With more threads than heads a row's spans are computed by several, and joined.
TEST_P(LongContexts, GiveTheSameBitsHoweverTheyAreCutAndOnAnyThreads) {
  Sequence sequence(GetParam(), 2 * kSpanPositions + 77, 5);
  const std::vector<float> at_once = sequence.Run({});
  for (const Way& way : {Way{.chunk = 1, .threads = 1}, Way{.chunk = 1, .threads = 4},
                         Way{.chunk = 3, .threads = 5}, Way{.chunk = 500, .threads = 3},
                         Way{.chunk = 1, .threads = 4, .path = AttentionPath::kPortable}}) {
    EXPECT_TRUE(SameBits(sequence.Run(way), at_once))
        << "chunks of " << way.chunk << ", " << way.threads << " threads";
  }
}

class AttentionTypes : public ::testing::TestWithParam<KvType> {};
INSTANTIATE_TEST_SUITE_P(Of, AttentionTypes, ::testing::ValuesIn(kKvTypes),
                         [](const auto& test) { return std::string(NameOf(test.param)); });

TEST_P(AttentionTypes, LeavesOtherSequencesOfTheBatchAlone) {
  const KvLayout layout{.type = GetParam(), .kv_heads = 2, .head_dim = 8, .blocks = 3};
  std::vector<std::byte> memory(static_cast<std::size_t>(layout.layer_bytes()), std::byte{0xFF});
  const std::vector<float> q = RandomFloats(7 * 32, 3);
  const std::vector<float> k = RandomFloats(7 * 16, 4);
  const std::vector<float> v = RandomFloats(7 * 16, 5);
  const std::vector<std::int32_t> first_blocks = {2};
  const std::vector<std::int32_t> second_blocks = {0};
  const SequenceRows batch[] = {
      {.first_row = 0, .rows = 5, .first_position = 0, .blocks = first_blocks},
      {.first_row = 5, .rows = 2, .first_position = 0, .blocks = second_blocks}};
  PagedAttention attention({.kv = layout, .heads = 4, .max_positions = 64, .threads = 2});
  const auto run = [&](std::span<const SequenceRows> sequences) {
    std::vector<float> y(q.size());
    StoreKeysAndValues(layout, sequences, {{k.data(), 7, 16, 16}, {v.data(), 7, 16, 16}},
                       memory.data(), 2);
    attention.Plan(sequences);
    attention.Run({q.data(), 7, 32, 32}, memory.data(), {y.data(), 7, 32, 32});
    return y;
  };
  const std::vector<float> both = run(batch);
  const std::vector<float> second = run({batch + 1, 1});
  EXPECT_TRUE(std::equal(second.begin() + 5 * 32, second.end(), both.begin() + 5 * 32));
}

// A row that holds no number spoils itself and those after it, whatever it is computed with.
TEST_P(AttentionTypes, WhatIsNoNumberReachesLaterRowsAndNoEarlierOne) {
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 16};
  constexpr std::int64_t kBad = 42;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const bool in_keys : {false, true}) {
      if (in_keys && std::isinf(bad)) {
        continue;  // a score of minus infinity is a weight of zero
      }
      Sequence sequence({shape, GetParam()}, 60, 6);
      const std::vector<float> good = sequence.Run({});
      (in_keys ? sequence.keys() : sequence.values())[kBad * 16 + 3] = bad;
      for (const AttentionPath path : Paths()) {
        const std::vector<float> y = sequence.Run({.path = path});
        EXPECT_TRUE(SameBits(std::span(y).first(kBad * 32), std::span(good).first(kBad * 32)));
        EXPECT_FALSE(std::isfinite(y[kBad * 32 + 3])) << AttentionKernelsOf(path)->name;
        EXPECT_FALSE(std::isfinite(y[59 * 32 + 3])) << AttentionKernelsOf(path)->name;
      }
    }
  }
}

TEST_P(AttentionTypes, TheSmallestAndLargestNumbersGiveTheSameBitsOnEveryInstructionSet) {
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 32};
  Sequence sequence({shape, GetParam()}, 90, 7);
  std::mt19937 random(8);
  for (std::vector<float>* const numbers :
       {&sequence.queries(), &sequence.keys(), &sequence.values()}) {
    for (float& x : *numbers) {
      x = std::ldexp(x, static_cast<int>(random() % 80) - (random() % 4 == 0 ? 140 : 70));
    }
  }
  const std::vector<float> plain = sequence.Run({.path = AttentionPath::kPortable});
  for (const AttentionPath path : Paths()) {
    EXPECT_TRUE(SameBits(sequence.Run({.path = path}), plain)) << AttentionKernelsOf(path)->name;
  }
}

// The widest heads and equal rows make the longest sums of the largest integers.
TEST_P(AttentionTypes, TheLongestSumsDoNotOverflow) {
  const Shape shape{.heads = 1, .kv_heads = 1, .head_dim = kMaxHeadDim};
  Sequence sequence({shape, GetParam()}, kSpanPositions, 9);
  std::fill(sequence.queries().begin(), sequence.queries().end(), 1.0F);
  std::fill(sequence.keys().begin(), sequence.keys().end(), 1.0F);
  std::fill(sequence.values().begin(), sequence.values().end(), 2.0F);
  for (const AttentionPath path : Paths()) {
    const std::vector<float> y = sequence.Run({.path = path});
    EXPECT_NEAR(y.front(), 2.0F, 1e-3F) << AttentionKernelsOf(path)->name;
    EXPECT_NEAR(y.back(), 2.0F, 1e-3F) << AttentionKernelsOf(path)->name;
  }
}

TEST(KvLayoutTest, NamesAndSizesFollowTheType) {
  const KvLayout f32{.type = KvType::kF32, .kv_heads = 2, .head_dim = 128};
  const KvLayout bf16{.type = KvType::kBf16, .kv_heads = 2, .head_dim = 128};
  const KvLayout int8{.type = KvType::kInt8, .kv_heads = 2, .head_dim = 128};
  EXPECT_EQ(f32.block_bytes(), 2 * 32 * 256 * 4);
  EXPECT_EQ(bf16.block_bytes(), 2 * 32 * 256 * 2);
  EXPECT_EQ(int8.block_bytes(), 2 * 32 * (256 + 8));
  for (const KvType type : kKvTypes) {
    EXPECT_EQ(KvTypeNamed(NameOf(type)), type);
  }
  EXPECT_EQ(KvTypeNamed("int4"), std::nullopt);
}

}  // namespace
}  // namespace yangtuo::kernels
