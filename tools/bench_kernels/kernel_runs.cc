#include "tools/bench_kernels/kernel_runs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/base/clock.h"
#include "inference_core/kernels/elementwise.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/paged_attention.h"
#include "inference_core/sampling/sampler.h"

namespace yangtuo {
namespace {

using kernels::Linear;
using kernels::MatmulType;
using kernels::MatmulWorkspace;

constexpr std::int64_t kHidden = 4096;
constexpr std::int64_t kFfn = 11008;
constexpr std::int64_t kVocab = 55296;
constexpr double kSecondsEach = 0.3;

AlignedBuffer<float> MadeUp(std::int64_t size) {
  AlignedBuffer<float> values(static_cast<std::size_t>(size));
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
  return values;
}

// Rows of an integer type, drawn as they are stored: quantizing takes longer than the whole rest.
std::vector<std::byte> MadeUpRows(DType dtype) {
  const auto row_bytes = static_cast<std::size_t>(RowBytes(dtype, kHidden));
  std::vector<std::byte> rows(2 * kFfn * row_bytes);
  std::uint32_t state = 1;
  for (std::byte& byte : rows) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24);
  }
  constexpr float kScale = 1e-4F;
  const std::size_t multipliers = dtype == DType::kInt4 ? kHidden / kInt4Group : 0;
  for (std::size_t row = 0; row < rows.size(); row += row_bytes) {
    std::byte* const end = rows.data() + row + row_bytes - sizeof(kScale);
    std::memcpy(end, &kScale, sizeof(kScale));
    for (std::byte* r = end - multipliers; r < end; ++r) {
      *r = static_cast<std::byte>(static_cast<std::int8_t>(std::to_integer<int>(*r) % 31 - 15));
    }
  }
  return rows;
}

// Seconds of the fastest run.
double Fastest(const std::function<void()>& body) {
  body();
  double best = 1e9;
  const TimePoint begin = SteadyClock().Now();
  do {
    const TimePoint start = SteadyClock().Now();
    body();
    best = std::min(best, ToSeconds(SteadyClock().Now() - start));
  } while (ToSeconds(SteadyClock().Now() - begin) < kSecondsEach);
  return best;
}

class Runs {
 public:
  Runs(int threads, const MachineLimits& limits) : threads_(threads), limits_(limits) {}

  void Products(MatmulType type, const char* name) {
    auto workspace = MatmulWorkspace::Create({.type = type, .threads = threads_});
    if (!workspace.ok()) {
      return;
    }
    const DType dtype = type == MatmulType::kInt8 ? DType::kInt8 : DType::kInt4;
    const std::vector<std::byte> weight = MadeUpRows(dtype);
    const kernels::StoredMatrix stored{
        .data = weight.data(), .dtype = dtype, .out = 2 * kFfn, .in = kHidden};
    const auto linear = Linear::Pack({&stored, 1}, *workspace);
    if (!linear.ok()) {
      return;
    }
    for (const std::int64_t rows : {1, 4, 8, 32, 512}) {
      const AlignedBuffer<float> x = MadeUp(rows * kHidden);
      AlignedBuffer<float> y(static_cast<std::size_t>(rows * 2 * kFfn));
      const double seconds = Fastest([&] {
        static_cast<void>(linear->Run(ConstMatrix(x.data(), {rows, kHidden}),
                                      Matrix(y.data(), {rows, 2 * kFfn}), *workspace));
      });
      const std::string row_name = absl::StrFormat("%s product, %d rows", name, rows);
      if (rows <= 4) {
        Add(row_name, Bound::kReading, static_cast<double>(linear->bytes()) / seconds);
      } else {
        const auto operations = static_cast<double>(2 * rows * kHidden * 2 * kFfn);
        Add(row_name, kernels::IsInteger(type) ? Bound::kInteger : Bound::kFloat,
            operations / seconds);
      }
    }
  }

  // The last `rows` of `positions`, 32 heads of which `kv_heads` have keys of their own.
  void Attention(kernels::KvType type, std::int64_t rows, std::int64_t positions,
                 std::int64_t kv_heads) {
    const std::int64_t blocks = positions / kernels::kBlockPositions;
    const kernels::KvLayout layout{
        .type = type, .kv_heads = kv_heads, .head_dim = 128, .blocks = blocks};
    AlignedBuffer<std::byte> layer(static_cast<std::size_t>(layout.layer_bytes()));
    std::vector<std::int32_t> table(static_cast<std::size_t>(blocks));
    std::iota(table.begin(), table.end(), 0);
    const kernels::SequenceRows batch{
        .first_row = 0, .rows = rows, .first_position = positions - rows, .blocks = table};
    const std::int64_t width = kv_heads * layout.head_dim;
    const AlignedBuffer<float> kept = MadeUp(positions * width);
    const kernels::SequenceRows all{
        .first_row = 0, .rows = positions, .first_position = 0, .blocks = table};
    kernels::StoreKeysAndValues(
        layout, {&all, 1},
        {{kept.data(), positions, width, width}, {kept.data(), positions, width, width}},
        layer.data(), threads_);
    const AlignedBuffer<float> q = MadeUp(rows * kHidden);
    AlignedBuffer<float> y(q.size());
    kernels::PagedAttention attention(
        {.kv = layout, .heads = 32, .max_positions = positions, .threads = threads_});
    attention.Plan({&batch, 1});
    const double seconds = Fastest([&] {
      attention.Run({q.data(), rows, kHidden, kHidden}, layer.data(),
                    {y.data(), rows, kHidden, kHidden});
    });
    const std::string name =
        absl::StrFormat("attention, kv %s, %d row%s over %d%s", kernels::NameOf(type), rows,
                        rows == 1 ? "" : "s", positions, kv_heads == 32 ? "" : ", grouped by 4");
    if (rows == 1) {
      Add(name, Bound::kReading, static_cast<double>(layer.size()) / seconds);
    } else {
      const double pairs = static_cast<double>(rows) *
                           (static_cast<double>(positions) - static_cast<double>(rows) / 2);
      const Bound bound = type == kernels::KvType::kF32    ? Bound::kFloat
                          : type == kernels::KvType::kBf16 ? Bound::kBf16
                                                           : Bound::kInteger;
      Add(name, bound, 4.0 * pairs * static_cast<double>(kHidden) / seconds);
    }
  }

  void Elementwise(std::int64_t rows) {
    const AlignedBuffer<float> x = MadeUp(rows * 2 * kFfn);
    const AlignedBuffer<float> weight = MadeUp(kHidden);
    AlignedBuffer<float> y(x.size());
    const auto bytes = [rows](std::int64_t cols) { return static_cast<double>(rows * cols * 4); };
    double seconds = Fastest([&] {
      kernels::RmsNorm({x.data(), rows, kHidden, kHidden}, weight.span(), 1e-5F,
                       {y.data(), rows, kHidden, kHidden}, threads_);
    });
    Add(absl::StrFormat("rms norm, %d rows", rows), Bound::kReading, bytes(kHidden) / seconds);
    seconds = Fastest([&] {
      kernels::SwiGlu({x.data(), rows, 2 * kFfn, 2 * kFfn}, {y.data(), rows, kFfn, kFfn}, threads_);
    });
    Add(absl::StrFormat("swiglu, %d rows", rows), Bound::kReading, bytes(2 * kFfn) / seconds);
    const kernels::RopeTable rope({.positions = 512, .head_dim = 128});
    std::vector<std::int32_t> positions(static_cast<std::size_t>(rows));
    std::iota(positions.begin(), positions.end(), 0);
    seconds = Fastest([&] { rope.Apply(positions, {y.data(), rows, kHidden, kHidden}, threads_); });
    Add(absl::StrFormat("rope, %d rows", rows), Bound::kReading, bytes(kHidden) / seconds);
  }

  void Sampling() {
    const AlignedBuffer<float> logits = MadeUp(kVocab);
    std::vector<float> values(logits.begin(), logits.end());
    SamplingParams params;
    params.top_p = 0.9F;
    params.top_k = 40;
    const double seconds = Fastest([&] {
      std::copy(logits.begin(), logits.end(), values.begin());
      SequenceSampler sampler(params, std::vector<TokenId>{1, 2, 3}, std::vector<TokenId>{});
      static_cast<void>(sampler.Sample(values));
    });
    Add("sampling, top-k and top-p of 55296", Bound::kReading,
        static_cast<double>(kVocab * 4) / seconds);
  }

  [[nodiscard]] std::vector<KernelSpeed> Take() { return std::move(speeds_); }

 private:
  void Add(std::string name, Bound bound, double per_second) {
    const double limit = bound == Bound::kReading ? limits_.read_bytes_per_second
                         : bound == Bound::kFloat ? limits_.float_ops_per_second
                         : bound == Bound::kBf16  ? limits_.bf16_ops_per_second
                                                  : limits_.integer_ops_per_second;
    speeds_.push_back({.name = std::move(name),
                       .bound = bound,
                       .per_second = per_second,
                       .ratio = limit > 0.0 ? per_second / limit : 0.0});
  }

  int threads_;
  MachineLimits limits_;
  std::vector<KernelSpeed> speeds_;
};

}  // namespace

std::vector<KernelSpeed> RunKernels(int threads, const MachineLimits& limits) {
  Runs runs(threads, limits);
  runs.Products(MatmulType::kInt8, "int8");
  runs.Products(MatmulType::kInt4, "int4");
  for (const kernels::KvType type : kernels::kKvTypes) {
    runs.Attention(type, 1, 4096, 32);
    runs.Attention(type, 1, 32768, 8);
    runs.Attention(type, 512, 512, 32);
    runs.Attention(type, 512, 2048, 32);
  }
  runs.Elementwise(1);
  runs.Elementwise(512);
  runs.Sampling();
  return runs.Take();
}

}  // namespace yangtuo
