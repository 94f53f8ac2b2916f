#include "tools/bench_kernels/machine_limits.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <immintrin.h>
#include <iterator>

#include "inference_core/base/aligned_buffer.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/cpu.h"
#include "inference_core/kernels/parallel.h"

namespace yangtuo {
namespace {

constexpr std::size_t kBytes = std::size_t{512} << 20;
constexpr std::size_t kPiece = std::size_t{1} << 20;
constexpr int kRounds = 5;
constexpr std::int64_t kIterations = 4'000'000;
constexpr std::size_t kChains = 10;  // independent sums: more than latency times width

double Seconds(TimePoint begin) { return ToSeconds(SteadyClock().Now() - begin); }

std::uint64_t Sum(const std::uint64_t* words, std::size_t count) {
  std::array<std::uint64_t, 16> sums = {};
  for (std::size_t i = 0; i < count; i += sums.size()) {
    __builtin_prefetch(words + i + 256);
    for (std::size_t j = 0; j < sums.size(); ++j) {
      sums[j] += words[i + j];
    }
  }
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) {
    total += sum;
  }
  return total;
}

double MeasureReading(int threads) {
  AlignedBuffer<std::uint64_t> memory(kBytes / sizeof(std::uint64_t));
  std::fill(memory.begin(), memory.end(), 1U);
  const std::size_t words = kPiece / sizeof(std::uint64_t);
  std::atomic<std::uint64_t> kept = 0;
  double best = 0.0;
  for (int round = 0; round < kRounds; ++round) {
    const TimePoint begin = SteadyClock().Now();
    kernels::ParallelFor(threads, static_cast<std::int64_t>(kBytes / kPiece), [&](std::int64_t i) {
      kept += Sum(memory.data() + static_cast<std::size_t>(i) * words, words);
    });
    best = std::max(best, static_cast<double>(kBytes) / Seconds(begin));
  }
  return kept > 0 ? best : 0.0;
}

[[gnu::target("avx2,fma")]] float RunFloat() {
  __m256 sums[kChains];
  std::fill(std::begin(sums), std::end(sums), _mm256_set1_ps(1.0F));
  const __m256 factor = _mm256_set1_ps(0.999F);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(sum, factor, factor);
    }
    asm volatile("" ::: "memory");
  }
  __m256 total = sums[0];
  for (const __m256& sum : sums) {
    total = _mm256_add_ps(total, sum);
  }
  return _mm256_cvtss_f32(total);
}

[[gnu::target("avx2")]] float RunInteger() {
  __m256i sums[kChains];
  std::fill(std::begin(sums), std::end(sums), _mm256_set1_epi32(1));
  __m256i x = _mm256_set1_epi16(3);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    asm volatile("" : "+x"(x));  // not the same product every time, for all the compiler knows
    for (__m256i& sum : sums) {
      __m256i product = _mm256_madd_epi16(x, x);
      asm volatile("" : "+x"(product));
      sum = _mm256_add_epi32(sum, product);
    }
  }
  __m256i total = sums[0];
  for (const __m256i& sum : sums) {
    total = _mm256_add_epi32(total, sum);
  }
  return static_cast<float>(_mm256_extract_epi32(total, 0));
}

// `each`: operations of one instruction.
double MeasureArithmetic(int threads, float (*run)(), double each) {
  std::atomic<int> kept = 0;
  double best = 0.0;
  for (int round = 0; round < kRounds; ++round) {
    const TimePoint begin = SteadyClock().Now();
    kernels::ParallelFor(threads, threads, [&](std::int64_t) { kept += run() != 0.0F ? 1 : 0; });
    const double instructions = static_cast<double>(kIterations) * kChains * threads;
    best = std::max(best, instructions * each / Seconds(begin));
  }
  return kept > 0 ? best : 0.0;
}

}  // namespace

MachineLimits MeasureLimits(int threads) {
  MachineLimits limits{.read_bytes_per_second = MeasureReading(threads)};
  if (GetCpuFeatures().avx2) {
    limits.float_ops_per_second = MeasureArithmetic(threads, RunFloat, 8 * 2);
    limits.integer_ops_per_second = MeasureArithmetic(threads, RunInteger, 16 * 2);
  }
  return limits;
}

}  // namespace yangtuo
