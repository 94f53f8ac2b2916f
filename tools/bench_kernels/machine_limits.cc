#include "tools/bench_kernels/machine_limits.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <immintrin.h>
#include <numeric>

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

// Sums of `count` words. Plain loads of two cache lines at a time: the hardware's own prefetch does
// best undisturbed.
std::uint64_t SumBase(const std::uint64_t* words, std::size_t count) {
  return std::accumulate(words, words + count, std::uint64_t{0});
}

[[gnu::target("avx2")]] std::uint64_t SumAvx2(const std::uint64_t* words, std::size_t count) {
  __m256i sums[4] = {};
  for (std::size_t i = 0; i < count; i += 16) {
    for (std::size_t j = 0; j < 4; ++j) {
      const auto* const at = reinterpret_cast<const __m256i*>(words + i + 4 * j);
      sums[j] = _mm256_add_epi64(sums[j], _mm256_load_si256(at));
    }
  }
  const __m256i sum =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  std::array<std::uint64_t, 4> lanes = {};
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes.data()), sum);
  return std::accumulate(lanes.begin(), lanes.end(), std::uint64_t{0});
}

[[gnu::target("avx512f")]] std::uint64_t SumAvx512(const std::uint64_t* words, std::size_t count) {
  __m512i even = _mm512_setzero_si512();
  __m512i odd = _mm512_setzero_si512();
  for (std::size_t i = 0; i < count; i += 16) {
    even = _mm512_add_epi64(even, _mm512_load_si512(words + i));
    odd = _mm512_add_epi64(odd, _mm512_load_si512(words + i + 8));
  }
  std::array<std::uint64_t, 8> lanes = {};
  _mm512_storeu_si512(lanes.data(), _mm512_add_epi64(even, odd));
  return std::accumulate(lanes.begin(), lanes.end(), std::uint64_t{0});
}

double MeasureReading(int threads) {
  AlignedBuffer<std::uint64_t> memory(kBytes / sizeof(std::uint64_t));
  std::fill(memory.begin(), memory.end(), 1U);
  const std::size_t words = kPiece / sizeof(std::uint64_t);
  const CpuFeatures& cpu = GetCpuFeatures();
  const auto sum = cpu.avx512 ? SumAvx512 : cpu.avx2 ? SumAvx2 : SumBase;
  std::atomic<std::uint64_t> kept = 0;
  double best = 0.0;
  for (int round = 0; round < kRounds; ++round) {
    const TimePoint begin = SteadyClock().Now();
    kernels::ParallelFor(threads, static_cast<std::int64_t>(kBytes / kPiece), [&](std::int64_t i) {
      kept += sum(memory.data() + static_cast<std::size_t>(i) * words, words);
    });
    best = std::max(best, static_cast<double>(kBytes) / Seconds(begin));
  }
  return kept > 0 ? best : 0.0;
}

// kIterations * kChains instructions, each on two registers of its own; said in assembly, so that
// none is simplified away.
[[gnu::target("avx2,fma")]] void RunFma256() {
  __m256 sums[kChains] = {};
  const __m256 x = _mm256_set1_ps(0.001F);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m256& sum : sums) {
      asm volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(x));
    }
  }
}

[[gnu::target("avx512f")]] void RunFma512() {
  __m512 sums[kChains] = {};
  const __m512 x = _mm512_set1_ps(0.001F);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m512& sum : sums) {
      asm volatile("vfmadd231ps %1, %1, %0" : "+v"(sum) : "v"(x));
    }
  }
}

[[gnu::target("avx512f,avx512bf16")]] void RunDpbf16() {
  __m512 sums[kChains] = {};
  const __m512 x = _mm512_set1_ps(0.001F);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m512& sum : sums) {
      asm volatile("vdpbf16ps %1, %1, %0" : "+v"(sum) : "v"(x));
    }
  }
}

// Exact on AVX2: products in 16 bits are summed in pairs, and these in 32 bits.
[[gnu::target("avx2")]] void RunMadd256() {
  __m256i sums[kChains] = {};
  const __m256i x = _mm256_set1_epi16(3);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m256i& sum : sums) {
      __m256i product;
      asm volatile("vpmaddwd %1, %1, %0" : "=x"(product) : "x"(x));
      asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product));
    }
  }
}

[[gnu::target("avx2,avxvnni")]] void RunDpbusd256() {
  __m256i sums[kChains] = {};
  const __m256i x = _mm256_set1_epi8(3);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m256i& sum : sums) {
      asm volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(sum) : "x"(x));
    }
  }
}

[[gnu::target("avx512f,avx512vnni")]] void RunDpbusd512() {
  __m512i sums[kChains] = {};
  const __m512i x = _mm512_set1_epi8(3);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (__m512i& sum : sums) {
      asm volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(x));
    }
  }
}

// `each`: operations of one instruction.
double MeasureArithmetic(int threads, void (*run)(), double each) {
  double best = 0.0;
  for (int round = 0; round < kRounds; ++round) {
    const TimePoint begin = SteadyClock().Now();
    kernels::ParallelFor(threads, threads, [&](std::int64_t) { run(); });
    const double instructions = static_cast<double>(kIterations) * kChains * threads;
    best = std::max(best, instructions * each / Seconds(begin));
  }
  return best;
}

}  // namespace

MachineLimits MeasureLimits(int threads) {
  MachineLimits limits{.read_bytes_per_second = MeasureReading(threads)};
  const CpuFeatures& cpu = GetCpuFeatures();
  if (cpu.avx512) {
    limits.float_ops_per_second = MeasureArithmetic(threads, RunFma512, 16 * 2);
  } else if (cpu.avx2) {
    limits.float_ops_per_second = MeasureArithmetic(threads, RunFma256, 8 * 2);
  }
  // Where there are no products of bf16, those numbers are widened to f32.
  limits.bf16_ops_per_second =
      cpu.avx512_bf16 ? MeasureArithmetic(threads, RunDpbf16, 32 * 2) : limits.float_ops_per_second;
  if (cpu.avx512 && cpu.avx512_vnni) {
    limits.integer_ops_per_second = MeasureArithmetic(threads, RunDpbusd512, 64 * 2);
  } else if (cpu.avx_vnni) {
    limits.integer_ops_per_second = MeasureArithmetic(threads, RunDpbusd256, 32 * 2);
  } else if (cpu.avx2) {
    limits.integer_ops_per_second = MeasureArithmetic(threads, RunMadd256, 16 * 2);
  }
  return limits;
}

}  // namespace yangtuo
