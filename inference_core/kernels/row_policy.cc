#include "inference_core/kernels/row_policy.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/base/crc32c.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo::kernels {
namespace {

// From what is fastest to what is surest. Measured with oneDNN 2.6.3: f32 on AVX-512 allows any
// rows; bf16 emulated there differs at one row; f32 on AVX2 allows only tiles, of 4 but not of 8.
constexpr std::array<RowPolicy, 5> kCandidates = {{{.min_rows = 1, .tile_rows = 0},
                                                   {.min_rows = 2, .tile_rows = 0},
                                                   {.min_rows = 1, .tile_rows = 4},
                                                   {.min_rows = 1, .tile_rows = 2},
                                                   {.min_rows = 1, .tile_rows = 1}}};
// Around the sizes at which kernels change: register tiles and cache blocks.
constexpr std::array<std::int64_t, 20> kRowCounts = {1,  2,  3,  4,  5,  7,  8,  15,  16,  17,
                                                     24, 31, 32, 33, 48, 64, 96, 128, 192, 256};
constexpr std::int64_t kDistinctRows = 16;
// A head of 55,296 columns is tested as one of these: columns are independent of each other.
constexpr std::int64_t kMaxTestedColumns = 8192;
constexpr std::int64_t kDistinctColumns = 256;
// Multiplications of one product, above which a row count is left out (except the largest one).
constexpr double kProductBudget = 2e9;

// A made-up value in [-1, 1) for every index, the same on every machine.
float MadeUp(std::uint64_t index) {
  std::uint64_t z = (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return static_cast<float>(static_cast<std::int32_t>(z >> 40) - (1 << 23)) * 0x1p-23F;
}

void FillMadeUp(std::span<float> values, std::uint64_t first_index) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = MadeUp(first_index + i);
  }
}

absl::StatusOr<Linear> PackMadeUp(const MatmulShape& shape, MatmulWorkspace& workspace) {
  // The same few hundred columns again and again: order of summation does not depend on values.
  const std::int64_t distinct = std::min(kDistinctColumns, shape.out);
  AlignedBuffer<float> weight(static_cast<std::size_t>(distinct * shape.in));
  FillMadeUp(weight.span(), 1U << 20);
  const auto* data = reinterpret_cast<const std::byte*>(weight.data());
  std::vector<StoredMatrix> parts;
  for (std::int64_t first = 0; first < shape.out; first += distinct) {
    parts.push_back({.data = data,
                     .dtype = DType::kF32,
                     .out = std::min(distinct, shape.out - first),
                     .in = shape.in});
  }
  return Linear::Pack(parts, workspace);
}

std::vector<std::int64_t> TestedRowCounts(const MatmulShape& shape, std::int64_t max_rows) {
  const double cost = static_cast<double>(shape.in) * static_cast<double>(shape.out);
  std::vector<std::int64_t> counts;
  for (const std::int64_t rows : kRowCounts) {
    if (rows < max_rows && (rows <= 4 || static_cast<double>(rows) * cost <= kProductBudget)) {
      counts.push_back(rows);
    }
  }
  counts.push_back(max_rows);
  return counts;
}

}  // namespace

absl::StatusOr<bool> RowPolicyHolds(const RowPolicyQuestion& question, const MatmulShape& shape,
                                    const RowPolicy& policy, std::uint32_t& fingerprint) {
  MatmulOptions options{.type = question.type, .row_policy = policy, .threads = 1};
  YANGTUO_ASSIGN_OR_RETURN(MatmulWorkspace single, MatmulWorkspace::Create(options));
  options.threads = question.threads;
  YANGTUO_ASSIGN_OR_RETURN(MatmulWorkspace team, MatmulWorkspace::Create(options));
  YANGTUO_ASSIGN_OR_RETURN(const Linear linear, PackMadeUp(shape, team));

  const std::int64_t max_rows = std::max(question.max_rows, kDistinctRows);
  AlignedBuffer<float> x(static_cast<std::size_t>(max_rows * shape.in));
  AlignedBuffer<float> y(static_cast<std::size_t>(max_rows * shape.out));
  AlignedBuffer<float> expected(static_cast<std::size_t>(kDistinctRows * shape.out));
  // Row r is made-up row r % kDistinctRows, so that every row stands at several places.
  for (std::int64_t r = 0; r < max_rows; ++r) {
    FillMadeUp({x.data() + r * shape.in, static_cast<std::size_t>(shape.in)},
               static_cast<std::uint64_t>(r % kDistinctRows * shape.in));
  }
  for (std::int64_t r = 0; r < kDistinctRows; ++r) {
    YANGTUO_RETURN_IF_ERROR(linear.Run(ConstMatrix(x.data() + r * shape.in, {1, shape.in}),
                                       Matrix(expected.data() + r * shape.out, {1, shape.out}),
                                       single));
  }
  fingerprint = ExtendCrc32c(fingerprint, std::as_bytes(expected.span()));

  for (const std::int64_t rows : TestedRowCounts(shape, max_rows)) {
    for (MatmulWorkspace* const workspace : {&single, &team}) {
      const bool repeats = workspace == &single ? question.threads == 1 || rows == max_rows : false;
      if (repeats) {
        continue;  // one thread twice, or the longest product on one thread
      }
      YANGTUO_RETURN_IF_ERROR(linear.Run(ConstMatrix(x.data(), {rows, shape.in}),
                                         Matrix(y.data(), {rows, shape.out}), *workspace));
      for (std::int64_t r = 0; r < rows; ++r) {
        if (std::memcmp(y.data() + r * shape.out, expected.data() + r % kDistinctRows * shape.out,
                        static_cast<std::size_t>(shape.out) * sizeof(float)) != 0) {
          return false;
        }
      }
    }
  }
  return true;
}

absl::StatusOr<RowPolicyFinding> FindRowPolicy(const RowPolicyQuestion& question) {
  std::set<std::pair<std::int64_t, std::int64_t>> shapes;
  for (const MatmulShape& shape : question.shapes) {
    shapes.emplace(shape.in, std::min(shape.out, kMaxTestedColumns));
  }
  for (const RowPolicy& policy : kCandidates) {
    bool holds = true;
    std::uint32_t fingerprint = 0;
    for (auto shape = shapes.begin(); holds && shape != shapes.end(); ++shape) {
      YANGTUO_ASSIGN_OR_RETURN(
          holds, RowPolicyHolds(question, {.in = shape->first, .out = shape->second}, policy,
                                fingerprint));
    }
    if (holds) {
      return RowPolicyFinding{.policy = policy, .fingerprint = fingerprint};
    }
  }
  return absl::UnimplementedError(absl::StrFormat(
      "oneDNN's products on this CPU (%s) give a row other bits in calls of other sizes, however "
      "they are cut; try another weight type or DNNL_MAX_CPU_ISA",
      MatmulInstructionSet(question.type, IntegerPath::kFastest)));
}

}  // namespace yangtuo::kernels
