// Rows to and from stored types, as loading and `yangtuo quantize` do it, on one thread. Counters:
// weights/s; a 7B model has 6.9e9.

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

constexpr std::size_t kCols = 4096;
constexpr DType kWritten[] = {DType::kF16,  DType::kBF16, DType::kInt8, DType::kInt4,
                              DType::kQ8_0, DType::kQ6_K, DType::kQ4_K, DType::kQ4_0};
constexpr DType kOnlyRead[] = {DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                               DType::kQ2_K, DType::kQ3_K, DType::kQ5_K};

std::vector<std::byte> Row(DType type) {
  return std::vector<std::byte>(static_cast<std::size_t>(RowBytes(type, kCols)));
}

void CountWeights(benchmark::State& state) {
  state.counters["weights"] = benchmark::Counter(static_cast<double>(state.iterations()) * kCols,
                                                 benchmark::Counter::kIsRate);
}

void BM_Quantize(benchmark::State& state, DType type) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> x(kCols);
  for (float& value : x) {
    value = normal(random);
  }
  std::vector<std::byte> row = Row(type);
  for (auto _ : state) {
    if (!QuantizeRow(type, x, {}, row).ok()) {
      state.SkipWithError("refused");
    }
    benchmark::DoNotOptimize(row.data());
  }
  CountWeights(state);
}

void BM_Dequantize(benchmark::State& state, DType type) {
  const std::vector<std::byte> row = Row(type);
  std::vector<float> y(kCols);
  for (auto _ : state) {
    DequantizeRow(type, row, y);
    benchmark::DoNotOptimize(y.data());
  }
  CountWeights(state);
}

const bool kRegistered = [] {
  for (const DType type : kWritten) {
    const std::string name(NameOf(type));
    benchmark::RegisterBenchmark(("quantize/" + name).c_str(), BM_Quantize, type);
    benchmark::RegisterBenchmark(("dequantize/" + name).c_str(), BM_Dequantize, type);
  }
  for (const DType type : kOnlyRead) {
    benchmark::RegisterBenchmark(("dequantize/" + std::string(NameOf(type))).c_str(), BM_Dequantize,
                                 type);
  }
  return true;
}();

}  // namespace
}  // namespace yangtuo
