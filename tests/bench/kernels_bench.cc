#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstdint>
#include <numeric>
#include <omp.h>
#include <random>
#include <vector>

#include "inference_core/base/aligned_buffer.h"
#include "inference_core/base/cpu.h"
#include "inference_core/kernels/elementwise.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/paged_attention.h"
#include "inference_core/kernels/row_policy.h"
#include "inference_core/quant/quant.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace yangtuo::kernels {
namespace {

int Threads() { return GetCpuLimits().compute_threads(); }

AlignedBuffer<float> Random(std::int64_t size) {
  AlignedBuffer<float> values(static_cast<std::size_t>(size));
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
  return values;
}

// Floor of one row: weight bytes / memory bandwidth. Of many rows: 2 * rows * in * out / FLOP rate.
void LinearRun(benchmark::State& state) {
  const auto type = static_cast<MatmulType>(state.range(0));
  const std::int64_t rows = state.range(1);
  const std::int64_t in = state.range(2);
  const std::int64_t out = state.range(3);
  const MatmulShape shape{.in = in, .out = out};
  const auto path = static_cast<IntegerPath>(state.range(4));
  MatmulOptions options{.type = type, .integer_path = path, .threads = Threads()};
  if (!IsInteger(type)) {
    const auto finding =
        FindRowPolicy({.type = type, .shapes = {&shape, 1}, .threads = Threads(), .max_rows = 16});
    options.row_policy = finding.ok() ? finding->policy : RowPolicy{};
  }
  auto workspace = MatmulWorkspace::Create(options);
  if (!workspace.ok()) {
    state.SkipWithError("no such products here");
    return;
  }
  const AlignedBuffer<float> weight = Random(in * out);
  StoredMatrix stored{.data = reinterpret_cast<const std::byte*>(weight.data()),
                      .dtype = DType::kF32,
                      .out = out,
                      .in = in};
  std::vector<std::byte> blocks;
  if (type == MatmulType::kGguf) {  // of Q4_0
    const auto row_bytes = static_cast<std::size_t>(RowBytes(DType::kQ4_0, in));
    blocks.resize(static_cast<std::size_t>(out) * row_bytes);
    for (std::size_t row = 0; row < static_cast<std::size_t>(out); ++row) {
      const auto columns = static_cast<std::size_t>(in);
      const absl::Status quantized =
          QuantizeRow(DType::kQ4_0, weight.span().subspan(row * columns, columns), {},
                      std::span(blocks).subspan(row * row_bytes, row_bytes));
      benchmark::DoNotOptimize(quantized.ok());
    }
    stored.data = blocks.data();
    stored.dtype = DType::kQ4_0;
  }
  auto linear = Linear::Pack({&stored, 1}, *workspace);
  if (!linear.ok()) {
    state.SkipWithError("no such products here");
    return;
  }
  const AlignedBuffer<float> x = Random(rows * in);
  AlignedBuffer<float> y(static_cast<std::size_t>(rows * out));
  for (auto _ : state) {
    const absl::Status status =
        linear->Run(ConstMatrix(x.data(), {rows, in}), Matrix(y.data(), {rows, out}), *workspace);
    benchmark::DoNotOptimize(status.ok());
  }
  using benchmark::Counter;
  state.counters["bytes"] = Counter(static_cast<double>(linear->bytes()),
                                    Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["OP"] = Counter(2.0 * static_cast<double>(in * out * rows),
                                 Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.SetLabel(MatmulInstructionSet(type, path));
}
BENCHMARK(LinearRun)
    ->ArgNames({"type", "rows", "in", "out", "path"})
    ->ArgsProduct({{static_cast<long>(MatmulType::kF32), static_cast<long>(MatmulType::kInt8),
                    static_cast<long>(MatmulType::kInt4), static_cast<long>(MatmulType::kGguf)},
                   {1, 2, 4, 8, 12, 16, 32, 64, 512},
                   {4096},
                   {22016},
                   {static_cast<long>(IntegerPath::kFastest)}})
    // Instruction sets by turns.
    ->ArgsProduct({{static_cast<long>(MatmulType::kInt8), static_cast<long>(MatmulType::kInt4)},
                   {1, 4, 8, 64},
                   {4096},
                   {22016},
                   {static_cast<long>(IntegerPath::kAvx2), static_cast<long>(IntegerPath::kAvxVnni),
                    static_cast<long>(IntegerPath::kAvx512Vnni)}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// What the int8 products above are measured against: oneDNN's own, weights packed as it likes them
// for this number of rows, sums left in s32. Activations are in s8 already and nothing is scaled,
// both of which our products do as well.
void OneDnnInt8(benchmark::State& state) {
  using dt = dnnl::memory::data_type;
  using tag = dnnl::memory::format_tag;
  const std::int64_t rows = state.range(0);
  const std::int64_t in = state.range(1);
  const std::int64_t out = state.range(2);
  const int team = omp_get_max_threads();
  omp_set_num_threads(Threads());
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::memory::desc any({in, out}, dt::s8, tag::any);
  const dnnl::matmul::primitive_desc description(
      dnnl::matmul::desc({{rows, in}, dt::s8, tag::ab}, any, {{rows, out}, dt::s32, tag::ab}),
      engine);
  const dnnl::matmul product(description);
  dnnl::memory x(description.src_desc(), engine);
  dnnl::memory weight(description.weights_desc(), engine);
  dnnl::memory y(description.dst_desc(), engine);
  for (const dnnl::memory* const memory : {&x, &weight}) {
    auto* const numbers = static_cast<std::int8_t*>(memory->get_data_handle());
    for (std::size_t i = 0; i < memory->get_desc().get_size(); ++i) {
      numbers[i] = static_cast<std::int8_t>(i * 31 % 251);
    }
  }
  for (auto _ : state) {
    product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, y}});
    stream.wait();
  }
  omp_set_num_threads(team);
  using benchmark::Counter;
  state.counters["bytes"] =
      Counter(static_cast<double>(in * out), Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["OP"] = Counter(2.0 * static_cast<double>(in * out * rows),
                                 Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.SetLabel(description.impl_info_str());
}
BENCHMARK(OneDnnInt8)
    ->ArgNames({"rows", "in", "out"})
    ->ArgsProduct({{1, 2, 4, 8, 12, 16, 32, 64, 512}, {4096}, {22016}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// Keys and values of all positions of `blocks`.
void FillLayer(const KvLayout& layout, std::span<const std::int32_t> blocks, std::byte* layer) {
  const auto positions = static_cast<std::int64_t>(blocks.size()) * kBlockPositions;
  const std::int64_t width = layout.kv_heads * layout.head_dim;
  const AlignedBuffer<float> numbers = Random(positions * width);
  const SequenceRows all{.first_row = 0, .rows = positions, .first_position = 0, .blocks = blocks};
  const Rows<const float> rows(numbers.data(), positions, width, width);
  StoreKeysAndValues(layout, {&all, 1}, {.keys = rows, .values = rows}, layer, 1);
}

// One row of each of `seqs` sequences of a 7B model's layer: bound by reading keys and values.
void AttentionDecode(benchmark::State& state) {
  const std::int64_t seqs = state.range(0);
  const std::int64_t positions = state.range(1);
  const std::int64_t heads = 32;
  const std::int64_t blocks = (positions + kBlockPositions - 1) / kBlockPositions;
  const KvLayout layout{.type = static_cast<KvType>(state.range(3)),
                        .kv_heads = state.range(2),
                        .head_dim = 128,
                        .blocks = seqs * blocks};
  AlignedBuffer<std::byte> layer(static_cast<std::size_t>(layout.layer_bytes()));
  std::vector<std::int32_t> tables(static_cast<std::size_t>(seqs * blocks));
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937(1));
  std::vector<SequenceRows> batch;
  for (std::int64_t s = 0; s < seqs; ++s) {
    batch.push_back({.first_row = s,
                     .rows = 1,
                     .first_position = positions - 1,
                     .blocks = std::span(tables).subspan(static_cast<std::size_t>(s * blocks),
                                                         static_cast<std::size_t>(blocks))});
  }
  for (const SequenceRows& sequence : batch) {
    FillLayer(layout, sequence.blocks, layer.data());
  }
  const std::int64_t width = heads * layout.head_dim;
  const AlignedBuffer<float> q = Random(seqs * width);
  AlignedBuffer<float> y(q.size());
  PagedAttention attention(
      {.kv = layout, .heads = heads, .max_positions = positions, .threads = Threads()});
  attention.Plan(batch);
  for (auto _ : state) {
    attention.Run({q.data(), seqs, width, width}, layer.data(), {y.data(), seqs, width, width});
    benchmark::ClobberMemory();
  }
  state.counters["bytes"] = benchmark::Counter(static_cast<double>(layer.size()),
                                               benchmark::Counter::kIsIterationInvariantRate,
                                               benchmark::Counter::kIs1000);
}
BENCHMARK(AttentionDecode)
    ->ArgNames({"seqs", "positions", "kv_heads", "type"})
    ->ArgsProduct({{1}, {4096}, {32, 8}, {0, 1, 2}})
    ->ArgsProduct({{16}, {1024}, {32, 8}, {0, 1, 2}})
    ->ArgsProduct({{1}, {32768}, {8}, {0, 1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// A chunk of 256 rows at the end of a prompt.
void AttentionPrefill(benchmark::State& state) {
  const std::int64_t rows = 256;
  const std::int64_t positions = state.range(0);
  const std::int64_t blocks = (positions + kBlockPositions - 1) / kBlockPositions;
  const KvLayout layout{.type = static_cast<KvType>(state.range(1)),
                        .kv_heads = 32,
                        .head_dim = 128,
                        .blocks = blocks};
  AlignedBuffer<std::byte> layer(static_cast<std::size_t>(layout.layer_bytes()));
  std::vector<std::int32_t> table(static_cast<std::size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  FillLayer(layout, table, layer.data());
  const SequenceRows batch{
      .first_row = 0, .rows = rows, .first_position = positions - rows, .blocks = table};
  const AlignedBuffer<float> q = Random(rows * 4096);
  AlignedBuffer<float> y(q.size());
  PagedAttention attention(
      {.kv = layout, .heads = 32, .max_positions = positions, .threads = Threads()});
  attention.Plan({&batch, 1});
  for (auto _ : state) {
    attention.Run({q.data(), rows, 4096, 4096}, layer.data(), {y.data(), rows, 4096, 4096});
    benchmark::ClobberMemory();
  }
  // Two products of every query with every key and value that it sees.
  const double pairs =
      static_cast<double>(rows) * (static_cast<double>(positions) - static_cast<double>(rows) / 2);
  state.counters["FLOP"] =
      benchmark::Counter(4.0 * pairs * 4096, benchmark::Counter::kIsIterationInvariantRate,
                         benchmark::Counter::kIs1000);
}
BENCHMARK(AttentionPrefill)
    ->ArgNames({"positions", "type"})
    ->ArgsProduct({{256, 512, 2048, 32768}, {0, 1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// A prompt's keys and values on their way into the cache.
void StoreKv(benchmark::State& state) {
  const std::int64_t rows = 512;
  const KvLayout layout{.type = static_cast<KvType>(state.range(0)),
                        .kv_heads = 32,
                        .head_dim = 128,
                        .blocks = rows / kBlockPositions};
  std::vector<std::int32_t> table(static_cast<std::size_t>(layout.blocks));
  std::iota(table.begin(), table.end(), 0);
  AlignedBuffer<std::byte> layer(static_cast<std::size_t>(layout.layer_bytes()));
  const AlignedBuffer<float> qkv = Random(rows * 3 * 4096);
  const Rows<const float> all(qkv.data(), rows, 3 * 4096, 3 * 4096);
  const SequenceRows batch{.first_row = 0, .rows = rows, .first_position = 0, .blocks = table};
  for (auto _ : state) {
    StoreKeysAndValues(layout, {&batch, 1},
                       {.keys = all.Columns(4096, 4096), .values = all.Columns(8192, 4096)},
                       layer.data(), Threads());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * rows * 2 * 4096);
}
BENCHMARK(StoreKv)->ArgName("type")->DenseRange(0, 2)->UseRealTime()->Unit(benchmark::kMillisecond);

void SwiGluRun(benchmark::State& state) {
  const std::int64_t rows = 512;
  const std::int64_t ffn = 11008;
  const AlignedBuffer<float> x = Random(rows * 2 * ffn);
  AlignedBuffer<float> y(static_cast<std::size_t>(rows * ffn));
  for (auto _ : state) {
    SwiGlu({x.data(), rows, 2 * ffn, 2 * ffn}, {y.data(), rows, ffn, ffn}, Threads());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * rows * ffn);
}
BENCHMARK(SwiGluRun)->UseRealTime()->Unit(benchmark::kMillisecond);

// What a 7B model's self-test adds to its start.
void SelfTest7B(benchmark::State& state) {
  const MatmulShape shapes[] = {
      {4096, 12288}, {4096, 4096}, {4096, 22016}, {11008, 4096}, {4096, 55296}};
  for (auto _ : state) {
    const auto finding = FindRowPolicy(
        {.type = MatmulType::kF32, .shapes = shapes, .threads = Threads(), .max_rows = 512});
    benchmark::DoNotOptimize(finding.ok());
  }
}
BENCHMARK(SelfTest7B)->UseRealTime()->Unit(benchmark::kSecond)->Iterations(1);

}  // namespace
}  // namespace yangtuo::kernels
