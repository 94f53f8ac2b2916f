#include "inference_core/kernels/integer_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <omp.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/integer_rows.h"
#include "inference_core/kernels/parallel.h"
#include "inference_core/kernels/quick_int4.h"
#include "inference_core/quant/quant.h"

namespace yangtuo::kernels {
namespace {

// Weights, expanded where they are int4, that many rows share before the next are read: half of a
// first-level cache.
constexpr std::int64_t kChunkBytes = 16384;
// How far ahead a few rows ask for weights: beyond the page that the CPU's own prefetcher stops at.
// A loop like one int4 row's on Zen 5, where plain reading gives 68 GB/s: 43 without, 46 with 512
// bytes, 50 with 2048, 54 with 4096, 51 with 8192.
constexpr std::int64_t kPrefetchBytes = 4096;
// Up to so many rows weights are one stream through memory.
constexpr std::int64_t kSingleStreamRows = 4;
// Multiplications below which waking a team costs more than it saves.
constexpr std::int64_t kTeamWork = std::int64_t{1} << 20;
// Values of x below which one thread rounds them faster than two.
constexpr std::int64_t kTeamValues = std::int64_t{1} << 15;

// Throws std::bad_alloc. A quarter more than needed, so that growing row counts settle soon.
template <typename T>
T* Reserve(AlignedBuffer<T>& buffer, std::int64_t size) {
  if (buffer.size() < static_cast<std::size_t>(size)) {
    buffer = AlignedBuffer<T>(static_cast<std::size_t>(size + size / 4));
  }
  return buffer.data();
}

// Where int8 inputs of column `column` lie in a tile: four at a time.
std::int64_t PlaceOfStep(std::int64_t step, std::int64_t column) {
  return step * (kStep * kTileColumns) + column * kStep;
}

void PackInt8Row(const Int8Row& row, std::int64_t column, std::byte* tile) {
  const auto in = static_cast<std::int64_t>(row.q.size());
  for (std::int64_t first = 0; first < in; first += 4) {
    std::memcpy(tile + PlaceOfStep(first / 4, column), row.q.data() + first,
                static_cast<std::size_t>(std::min<std::int64_t>(4, in - first)));
  }
}

// Clears what a tile holds before rows are packed: zeros, which int4 writes as code 8.
void ClearTile(MatmulType type, std::int64_t code_bytes, std::int64_t tile_bytes, std::byte* tile) {
  const int zero = type == MatmulType::kInt8 ? 0 : 0x88;
  std::memset(tile, zero, static_cast<std::size_t>(code_bytes));
  std::memset(tile + code_bytes, 0, static_cast<std::size_t>(tile_bytes - code_bytes));
}

void PackInt4Row(const Int4Row& row, std::int64_t column, std::byte* tile) {
  const auto groups = static_cast<std::int64_t>(row.r.size());
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::byte* const codes = row.codes.data() + group * (kGroup / 2);
    // A byte has the codes of inputs k and k + 16 in a row as in a tile: steps s and s + 4.
    for (std::int64_t step = 0; step < 4; ++step) {
      std::memcpy(tile + group * kInt4GroupBytes + PlaceOfStep(step, column), codes + step * kStep,
                  kStep);
    }
    tile[groups * kInt4GroupBytes + group * kTileColumns + column] =
        row.r[static_cast<std::size_t>(group)];
  }
}

// The row in `type`: as it is, or quantized into `buffer`.
absl::StatusOr<std::span<const std::byte>> InType(DType type, const RowReader::Row& row,
                                                  std::span<float> wide,
                                                  std::span<std::byte> buffer) {
  if (row.dtype == type) {
    return row.bytes;
  }
  DequantizeRow(row.dtype, row.bytes, wide);
  float sum = 0.0F;
  for (const float value : wide) {
    sum += value * 0.0F;  // zero for a finite number, NaN otherwise
  }
  if (sum != 0.0F) {
    return absl::DataLossError(absl::StrFormat(
        "a weight is not a finite number, so it cannot be kept in %s (see `yangtuo verify`)",
        NameOf(type)));
  }
  if (type == DType::kInt4) {
    QuickInt4Row(wide, buffer);
  } else {
    YANGTUO_RETURN_IF_ERROR(QuantizeRow(type, wide, {}, buffer));
  }
  return std::span<const std::byte>(buffer);
}

}  // namespace

absl::StatusOr<IntegerWorkspace> IntegerWorkspace::Create(const MatmulOptions& options) {
  const IntegerKernels* const kernels = KernelsOf(options.integer_path);
  if (kernels == nullptr) {
    return absl::UnimplementedError(
        "this CPU lacks the instruction set that integer products were asked to use");
  }
  return IntegerWorkspace(options, *kernels);
}

absl::StatusOr<PackingLoss> IntegerLinear::PackTile(std::span<const StoredMatrix> parts,
                                                    std::int64_t first, std::int64_t tile) {
  const bool int8 = layout_.type == MatmulType::kInt8;
  const DType dtype = int8 ? DType::kInt8 : DType::kInt4;
  std::byte* const packed = weight_.data() + tile * layout_.tile_bytes();
  ClearTile(layout_.type, layout_.groups() * layout_.group_bytes(), layout_.tile_bytes(), packed);
  RowReader reader(parts);
  std::vector<float> wide(static_cast<std::size_t>(layout_.in));
  std::vector<std::byte> buffer(static_cast<std::size_t>(RowBytes(dtype, layout_.in)));
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  const std::int64_t columns = std::min(kTileColumns, shape.out - first);
  PackingLoss loss;
  for (std::int64_t c = 0; c < columns; ++c) {
    YANGTUO_ASSIGN_OR_RETURN(const RowReader::Row stored, reader.Read(first + c));
    YANGTUO_ASSIGN_OR_RETURN(const std::span<const std::byte> row,
                             InType(dtype, stored, wide, buffer));
    if (c == 0 && stored.dtype != dtype) {
      loss = LossOf(dtype, wide, row);
    }
    float& scale = scales_[static_cast<std::size_t>(tile * kTileColumns + c)];
    if (int8) {
      const Int8Row parts_of = SplitInt8Row(row);
      scale = parts_of.scale;
      PackInt8Row(parts_of, c, packed);
    } else {
      const Int4Row parts_of = SplitInt4Row(row, layout_.in);
      scale = parts_of.scale;
      PackInt4Row(parts_of, c, packed);
    }
  }
  return loss;
}

absl::StatusOr<IntegerLinear> IntegerLinear::Allocate(const StackedShape& shape, MatmulType type) {
  if (shape.in > kMostInputs) {
    return absl::UnimplementedError(
        absl::StrFormat("a product over %d inputs: sums of int8 products are exact up to %d",
                        shape.in, kMostInputs));
  }
  const Layout layout{.type = type, .in = shape.in, .out = shape.out};
  YANGTUO_ASSIGN_OR_RETURN(AlignedBuffer<std::byte> weight,
                           AlignedBuffer<std::byte>::Create(
                               static_cast<std::size_t>(layout.tiles() * layout.tile_bytes())));
  YANGTUO_ASSIGN_OR_RETURN(
      AlignedBuffer<float> scales,
      AlignedBuffer<float>::Create(static_cast<std::size_t>(layout.tiles() * kTileColumns)));
  return IntegerLinear(layout, std::move(weight), std::move(scales));
}

std::vector<std::span<const std::byte>> IntegerLinear::packed() const {
  return {weight_.span(), std::as_bytes(scales_.span())};
}

absl::StatusOr<IntegerLinear> IntegerLinear::Restore(
    const StackedShape& shape, const PackingLoss& loss,
    const std::function<absl::Status(std::span<std::byte>)>& fill, IntegerWorkspace& workspace) {
  YANGTUO_ASSIGN_OR_RETURN(IntegerLinear linear, Allocate(shape, workspace.options_.type));
  YANGTUO_RETURN_IF_ERROR(fill(linear.weight_.span()));
  YANGTUO_RETURN_IF_ERROR(fill(std::as_writable_bytes(linear.scales_.span())));
  linear.loss_ = loss;
  return linear;
}

absl::StatusOr<bool> IntegerLinear::AgreesWith(std::span<const StoredMatrix> parts,
                                               std::int64_t sample) const {
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  if (shape.in != layout_.in || shape.out != layout_.out) {
    return false;
  }
  // A tile of the same columns, alone; PackTile wants it at its place among all.
  const std::int64_t tile = sample % layout_.tiles();
  YANGTUO_ASSIGN_OR_RETURN(
      IntegerLinear alone,
      Allocate({.in = layout_.in, .out = std::min(kTileColumns, layout_.out)}, layout_.type));
  YANGTUO_RETURN_IF_ERROR(alone.PackTile(parts, tile * kTileColumns, 0).status());
  const auto columns =
      static_cast<std::size_t>(std::min(kTileColumns, layout_.out - tile * kTileColumns));
  return std::memcmp(alone.weight_.data(), weight_.data() + tile * layout_.tile_bytes(),
                     static_cast<std::size_t>(layout_.tile_bytes())) == 0 &&
         std::memcmp(alone.scales_.data(), scales_.data() + tile * kTileColumns,
                     columns * sizeof(float)) == 0;
}

absl::StatusOr<IntegerLinear> IntegerLinear::Pack(std::span<const StoredMatrix> parts,
                                                  IntegerWorkspace& workspace) {
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  YANGTUO_ASSIGN_OR_RETURN(IntegerLinear linear, Allocate(shape, workspace.options_.type));
  const std::int64_t tiles = linear.layout_.tiles();
  std::vector<absl::StatusOr<PackingLoss>> packed(static_cast<std::size_t>(tiles));
  ParallelFor(workspace.options_.threads, tiles, [&](std::int64_t tile) {
    packed[static_cast<std::size_t>(tile)] = linear.PackTile(parts, tile * kTileColumns, tile);
  });
  for (const absl::StatusOr<PackingLoss>& loss : packed) {
    YANGTUO_RETURN_IF_ERROR(loss.status());
    linear.loss_.Add(*loss);
  }
  return linear;
}

// Rows go through the kernels in blocks of nearly equal size, tiles in runs.
struct IntegerLinear::Plan {
  bool from_codes = false;  // int4 by its codes, else by what they expand to
  bool with_bias = false;
  TileKernel kernel = nullptr;
  std::int64_t rows = 0;
  std::int64_t blocks = 0;
  std::int64_t tiles_at_once = 1;
  std::int64_t chunk_groups = 0;

  [[nodiscard]] std::int64_t FirstRow(std::int64_t block) const {
    return block * (rows / blocks) + std::min(block, rows % blocks);
  }
  [[nodiscard]] std::int64_t RowsOf(std::int64_t block) const {
    return FirstRow(block + 1) - FirstRow(block);
  }
  [[nodiscard]] std::int64_t sums_stride() const { return tiles_at_once * kTileColumns; }
};

IntegerLinear::Plan IntegerLinear::PlanFor(std::int64_t rows,
                                           const IntegerWorkspace& workspace) const {
  const IntegerKernels& kernels = *workspace.kernels_;
  const bool int8 = layout_.type == MatmulType::kInt8;
  const bool from_codes = !int8 && rows <= kernels.int4_rows;
  KernelBlock at_once = from_codes ? kernels.int4_block : kernels.int8_block;
  const std::int64_t blocks = (rows + at_once.rows - 1) / at_once.rows;
  // One block of rows reads weights once, from memory, and best as one stream.
  if (rows <= kSingleStreamRows) {
    at_once.tiles = 1;
  }
  return {.from_codes = from_codes,
          .with_bias = from_codes || (!int8 && kernels.expanded_has_bias),
          .kernel = int8         ? kernels.int8
                    : from_codes ? kernels.int4
                                 : kernels.int4_expanded,
          .rows = rows,
          .blocks = blocks,
          .tiles_at_once = at_once.tiles,
          .chunk_groups = blocks == 1 && (int8 || from_codes)
                              ? layout_.groups()
                              : kChunkBytes / kInt8GroupBytes / at_once.tiles};
}

// Rounds the rows of a block and lays them out for the kernels.
void IntegerLinear::Quantize(const Plan& plan, ConstMatrix x, std::int64_t block,
                             IntegerWorkspace& workspace) const {
  const std::int64_t groups = layout_.groups();
  const auto stride = static_cast<std::size_t>(groups * kGroup);
  const auto in = static_cast<std::size_t>(layout_.in);
  const std::int64_t first = plan.FirstRow(block);
  const std::int64_t rows = plan.RowsOf(block);
  std::int8_t* const packed = workspace.x_.data() + first * groups * kGroup;
  // A single row is laid out as it is.
  std::int8_t* const rounded =
      rows == 1 ? packed
                : workspace.rounded_.data() +
                      omp_get_thread_num() * plan.RowsOf(0) * static_cast<std::int64_t>(stride);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::span<std::int8_t> row(rounded + static_cast<std::size_t>(r) * stride, stride);
    workspace.scales_[static_cast<std::size_t>(first + r)] =
        workspace.kernels_->quantize_row(x.Row(first + r), row.first(in));
    std::fill(row.begin() + layout_.in, row.end(), std::int8_t{0});
    std::int32_t* const bias =
        plan.with_bias ? workspace.bias_.data() + first * groups + r : nullptr;
    workspace.starts_[static_cast<std::size_t>(first + r)] =
        workspace.kernels_->row_start(row, bias, rows);
  }
  for (std::size_t step = 0; rows > 1 && step < stride / kStep; ++step) {
    for (std::int64_t r = 0; r < rows; ++r) {
      std::memcpy(packed + (static_cast<std::int64_t>(step) * rows + r) * kStep,
                  rounded + static_cast<std::size_t>(r) * stride + step * kStep, kStep);
    }
  }
}

void IntegerLinear::RunTiles(const Plan& plan, std::int64_t first_tile, Matrix y,
                             IntegerWorkspace& workspace) const {
  const IntegerKernels& kernels = *workspace.kernels_;
  const std::int64_t thread = omp_get_thread_num();
  const std::int64_t groups = layout_.groups();
  const std::int64_t tile_bytes = layout_.tile_bytes();
  const std::int64_t tiles = std::min(plan.tiles_at_once, layout_.tiles() - first_tile);
  const std::int64_t width = plan.sums_stride();
  std::int32_t* const sums = workspace.sums_.data() + thread * plan.rows * width;
  for (std::int64_t row = 0; row < plan.rows; ++row) {
    std::fill_n(sums + row * width, width,
                plan.from_codes ? 0 : workspace.starts_[static_cast<std::size_t>(row)]);
  }
  const std::byte* const weight = weight_.data() + first_tile * tile_bytes;
  const auto* const multipliers =
      reinterpret_cast<const std::int8_t*>(weight + groups * layout_.group_bytes());
  const bool expand = layout_.type == MatmulType::kInt4 && !plan.from_codes;
  for (std::int64_t first = 0; first < groups; first += plan.chunk_groups) {
    const std::int64_t count = std::min(plan.chunk_groups, groups - first);
    const std::byte* const part = weight + first * layout_.group_bytes();
    TileProduct product{
        .groups = count,
        .weight = part,
        .multipliers = multipliers + first * kTileColumns,
        .tiles = tiles,
        .tile_stride = tile_bytes,
        // While many rows share a chunk there is time to fetch all of the next.
        .ahead = part + (count == groups ? kPrefetchBytes : count * layout_.group_bytes()),
        .ahead_tile_stride = tile_bytes,
        .ahead_step = layout_.group_bytes() / (kGroup / kStep),
        .sums_stride = width};
    if (expand) {
      std::byte* const expanded = workspace.expanded_.data() + thread * kChunkBytes;
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        kernels.expand({.codes = part + tile * tile_bytes,
                        .multipliers = product.multipliers + tile * tile_bytes,
                        .groups = count,
                        .expanded = expanded + tile * count * kInt8GroupBytes});
      }
      product.weight = expanded;
      product.tile_stride = count * kInt8GroupBytes;
    }
    for (std::int64_t block = 0; block < plan.blocks; ++block) {
      const std::int64_t row = plan.FirstRow(block);
      product.rows = plan.RowsOf(block);
      product.x = workspace.x_.data() + row * groups * kGroup + first * kGroup * product.rows;
      product.bias =
          plan.with_bias ? workspace.bias_.data() + row * groups + first * product.rows : nullptr;
      product.sums = sums + row * width;
      plan.kernel(product);
    }
  }
  const std::int64_t column = first_tile * kTileColumns;
  for (std::int64_t row = 0; row < plan.rows; ++row) {
    kernels.scale({.sums = sums + row * width,
                   .weight_scales = scales_.data() + column,
                   .x_scale = workspace.scales_[static_cast<std::size_t>(row)],
                   .y = y.data() + row * layout_.out + column,
                   .columns = std::min(tiles * kTileColumns, layout_.out - column)});
  }
}

absl::Status IntegerLinear::Run(ConstMatrix x, Matrix y, IntegerWorkspace& workspace) const {
  const std::int64_t rows = x.dim(0);
  const int threads = rows * layout_.in * layout_.out < kTeamWork ? 1 : workspace.options_.threads;
  const Plan plan = PlanFor(rows, workspace);
  const std::int64_t stride = layout_.groups() * kGroup;
  try {
    Reserve(workspace.rounded_, threads * plan.RowsOf(0) * stride);
    Reserve(workspace.x_, rows * stride);
    Reserve(workspace.scales_, rows);
    Reserve(workspace.starts_, rows);
    Reserve(workspace.sums_, threads * rows * plan.sums_stride());
    if (layout_.type == MatmulType::kInt4) {
      Reserve(workspace.bias_, rows * layout_.groups());
      Reserve(workspace.expanded_, threads * kChunkBytes);
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a matrix product");
  }
  ParallelFor(rows * stride < kTeamValues ? 1 : threads, plan.blocks,
              [&](std::int64_t block) { Quantize(plan, x, block, workspace); });
  // A few rows take little time for a tile: several in a row are one stream of weights.
  const std::int64_t at_once = plan.tiles_at_once;
  const std::int64_t units = (layout_.tiles() + at_once - 1) / at_once;
  const std::int64_t run =
      rows <= kSingleStreamRows ? std::clamp<std::int64_t>(units / (threads * 16), 1, 8) : 1;
  ParallelFor(threads, (units + run - 1) / run, [&](std::int64_t i) {
    const std::int64_t last = std::min(units, (i + 1) * run);
    for (std::int64_t unit = i * run; unit < last; ++unit) {
      RunTiles(plan, unit * at_once, y, workspace);
    }
  });
  return absl::OkStatus();
}

std::int64_t IntegerLinear::bytes() const {
  return static_cast<std::int64_t>(weight_.size() + scales_.size() * sizeof(float));
}

}  // namespace yangtuo::kernels
