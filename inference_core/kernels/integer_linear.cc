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

// Groups of a tile that many rows share before the next are read: 16 kB of int8, half of a
// first-level cache.
constexpr std::int64_t kChunkGroups = 32;
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
  return step * (4 * kTileColumns) + column * 4;
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
    std::byte* const dst = tile + group * kInt4GroupBytes + column / 8 * 128 + column % 8 * 4;
    // A byte has the codes of inputs k and k + 16 in a row as in a tile: steps s and s + 4.
    for (std::int64_t step = 0; step < 4; ++step) {
      std::memcpy(dst + step * 32, codes + step * 4, 4);
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

absl::Status IntegerLinear::PackTile(std::span<const StoredMatrix> parts, std::int64_t tile) {
  const bool int8 = layout_.type == MatmulType::kInt8;
  const DType dtype = int8 ? DType::kInt8 : DType::kInt4;
  std::byte* const packed = weight_.data() + tile * layout_.tile_bytes();
  ClearTile(layout_.type, layout_.groups() * layout_.group_bytes(), layout_.tile_bytes(), packed);
  RowReader reader(parts);
  std::vector<float> wide(static_cast<std::size_t>(layout_.in));
  std::vector<std::byte> buffer(static_cast<std::size_t>(RowBytes(dtype, layout_.in)));
  const std::int64_t first = tile * kTileColumns;
  const std::int64_t columns = std::min(kTileColumns, layout_.out - first);
  for (std::int64_t c = 0; c < columns; ++c) {
    YANGTUO_ASSIGN_OR_RETURN(const RowReader::Row stored, reader.Read(first + c));
    YANGTUO_ASSIGN_OR_RETURN(const std::span<const std::byte> row,
                             InType(dtype, stored, wide, buffer));
    float& scale = scales_[static_cast<std::size_t>(first + c)];
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
  return absl::OkStatus();
}

absl::StatusOr<IntegerLinear> IntegerLinear::Pack(std::span<const StoredMatrix> parts,
                                                  IntegerWorkspace& workspace) {
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  if (shape.in > kMostInputs) {
    return absl::UnimplementedError(
        absl::StrFormat("a product over %d inputs: sums of int8 products are exact up to %d",
                        shape.in, kMostInputs));
  }
  const Layout layout{.type = workspace.options_.type, .in = shape.in, .out = shape.out};
  const std::int64_t tiles = layout.tiles();
  YANGTUO_ASSIGN_OR_RETURN(
      AlignedBuffer<std::byte> weight,
      AlignedBuffer<std::byte>::Create(static_cast<std::size_t>(tiles * layout.tile_bytes())));
  YANGTUO_ASSIGN_OR_RETURN(
      AlignedBuffer<float> scales,
      AlignedBuffer<float>::Create(static_cast<std::size_t>(tiles * kTileColumns)));
  IntegerLinear linear(layout, std::move(weight), std::move(scales));
  std::vector<absl::Status> packed(static_cast<std::size_t>(tiles));
  ParallelFor(workspace.options_.threads, tiles, [&](std::int64_t tile) {
    packed[static_cast<std::size_t>(tile)] = linear.PackTile(parts, tile);
  });
  for (const absl::Status& status : packed) {
    YANGTUO_RETURN_IF_ERROR(status);
  }
  return linear;
}

IntegerLinear::Activations IntegerLinear::Quantize(ConstMatrix x, int threads,
                                                   IntegerWorkspace& workspace) const {
  const std::int64_t rows = x.dim(0);
  const std::int64_t groups = layout_.groups();
  const std::int64_t stride = groups * kGroup;
  const bool int4 = layout_.type == MatmulType::kInt4;
  std::int8_t* const quantized = Reserve(workspace.x_, rows * stride);
  float* const scales = Reserve(workspace.scales_, rows);
  std::int32_t* const bias = int4 ? Reserve(workspace.bias_, rows * groups) : nullptr;
  ParallelFor(rows * stride < kTeamValues ? 1 : threads, rows, [&](std::int64_t r) {
    const std::span<std::int8_t> row(quantized + r * stride, static_cast<std::size_t>(stride));
    const auto in = static_cast<std::size_t>(layout_.in);
    std::fill(row.begin() + layout_.in, row.end(), std::int8_t{0});
    scales[r] = workspace.kernels_->quantize_row(x.Row(r), row.first(in));
    for (std::int64_t g = 0; int4 && g < groups; ++g) {
      bias[r * groups + g] =
          GroupBias(std::span<const std::int8_t, kGroup>(row.data() + g * kGroup, kGroup));
    }
  });
  return {.x = quantized, .scales = scales, .bias = bias, .rows = rows};
}

void IntegerLinear::RunTile(const Activations& x, std::int64_t tile, Matrix y,
                            IntegerWorkspace& workspace) const {
  const IntegerKernels& kernels = *workspace.kernels_;
  const std::int64_t thread = omp_get_thread_num();
  const std::int64_t groups = layout_.groups();
  const bool int8 = layout_.type == MatmulType::kInt8;
  std::int32_t* const sums = workspace.sums_.data() + thread * x.rows * kTileColumns;
  std::fill_n(sums, x.rows * kTileColumns, 0);
  const std::byte* const weight = weight_.data() + tile * layout_.tile_bytes();
  const auto* const multipliers =
      reinterpret_cast<const std::int8_t*>(weight + groups * layout_.group_bytes());
  // A few rows read the packed weights once, from memory; many share each part of them while it is
  // in the cache, int4 as bytes.
  const bool few = x.rows <= kMostRows;
  const bool expand = !int8 && !few;
  std::byte* const expanded = workspace.expanded_.data() + thread * kChunkGroups * kInt8GroupBytes;
  const TileKernel kernel = int8 ? kernels.int8 : expand ? kernels.int4_expanded : kernels.int4;
  const std::int64_t chunk = few ? groups : kChunkGroups;
  for (std::int64_t first = 0; first < groups; first += chunk) {
    const std::int64_t count = std::min(chunk, groups - first);
    const std::byte* part = weight + first * layout_.group_bytes();
    if (expand) {
      kernels.expand(part, count, expanded);
      part = expanded;
    }
    for (std::int64_t row = 0; row < x.rows; row += kMostRows) {
      kernel({.x = {.x = x.x + row * groups * kGroup + first * kGroup,
                    .bias = int8 ? nullptr : x.bias + row * groups + first,
                    .x_stride = groups * kGroup,
                    .bias_stride = groups,
                    .rows = std::min(kMostRows, x.rows - row)},
              .weight = part,
              .multipliers = int8 ? nullptr : multipliers + first * kTileColumns,
              .groups = count,
              .sums = sums + row * kTileColumns});
    }
  }
  const std::int64_t column = tile * kTileColumns;
  for (std::int64_t row = 0; row < x.rows; ++row) {
    kernels.scale({.sums = sums + row * kTileColumns,
                   .weight_scales = scales_.data() + column,
                   .x_scale = x.scales[row],
                   .y = y.data() + row * layout_.out + column,
                   .columns = std::min(kTileColumns, layout_.out - column)});
  }
}

absl::Status IntegerLinear::Run(ConstMatrix x, Matrix y, IntegerWorkspace& workspace) const {
  const std::int64_t rows = x.dim(0);
  const int threads = rows * layout_.in * layout_.out < kTeamWork ? 1 : workspace.options_.threads;
  try {
    const Activations activations = Quantize(x, threads, workspace);
    Reserve(workspace.sums_, threads * rows * kTileColumns);
    if (layout_.type == MatmulType::kInt4) {
      Reserve(workspace.expanded_, threads * kChunkGroups * kInt8GroupBytes);
    }
    ParallelFor(threads, layout_.tiles(),
                [&](std::int64_t tile) { RunTile(activations, tile, y, workspace); });
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a matrix product");
  }
  return absl::OkStatus();
}

std::int64_t IntegerLinear::bytes() const {
  return static_cast<std::int64_t>(weight_.size() + scales_.size() * sizeof(float));
}

}  // namespace yangtuo::kernels
