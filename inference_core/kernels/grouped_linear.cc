#include "inference_core/kernels/grouped_linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <omp.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/parallel.h"
#include "inference_core/quant/quant.h"

namespace yangtuo::kernels {
namespace {

// Multiplications below which waking a team costs more than it saves.
constexpr std::int64_t kTeamWork = std::int64_t{1} << 20;
// Values of x below which one thread rounds them faster than two.
constexpr std::int64_t kTeamValues = std::int64_t{1} << 15;
constexpr std::int64_t kSteps = kGroup / kStep;

// Throws std::bad_alloc. A quarter more than needed, so that growing row counts settle soon.
template <typename T>
void Reserve(AlignedBuffer<T>& buffer, std::int64_t size) {
  if (buffer.size() < static_cast<std::size_t>(size)) {
    buffer = AlignedBuffer<T>(static_cast<std::size_t>(size + size / 4));
  }
}

// A row as Q8_0, padded with zeros to whole blocks.
absl::Status AsQ8(const RowReader::Row& row, std::int64_t in, std::span<float> padded,
                  std::span<std::byte> q8) {
  DequantizeRow(row.dtype, row.bytes, padded.first(static_cast<std::size_t>(in)));
  for (const float value : padded) {
    if (!std::isfinite(value)) {
      return absl::DataLossError(
          "a weight is not a finite number, so it cannot be kept in q8_0 (see `yangtuo verify`)");
    }
  }
  return QuantizeRow(DType::kQ8_0, padded, {}, q8);
}

// Column `column` of a tile.
void PutCodes(const WeightGroup& group, bool codes, std::int64_t column, std::byte* to) {
  for (std::int64_t step = 0; step < (codes ? kSteps / 2 : kSteps); ++step) {
    std::byte* const at = to + step * (kStep * kTileColumns) + column * kStep;
    for (std::int64_t k = 0; k < kStep; ++k) {
      const std::int64_t i = step * kStep + k;
      const int low = group.codes[i];
      at[k] = static_cast<std::byte>(codes ? low | group.codes[i + kGroup / 2] << 4 : low);
    }
  }
}

}  // namespace

absl::StatusOr<GroupedWorkspace> GroupedWorkspace::Create(const MatmulOptions& options) {
  const GroupedKernels* const kernels = GroupedKernelsOf(options.integer_path);
  if (kernels == nullptr) {
    return absl::UnimplementedError(
        "this CPU lacks the instruction set that integer products were asked to use");
  }
  return GroupedWorkspace(options, *kernels);
}

absl::StatusOr<PackingLoss> GroupedLinear::PackTile(const StoredMatrix& matrix, std::int64_t tile,
                                                    Part& part) const {
  const std::int64_t all = groups();
  const std::int64_t factors = part.factors();
  const std::int64_t per_base = part.format.per_base;
  RowReader reader({&matrix, 1});
  std::vector<WeightGroup> row(static_cast<std::size_t>(all));
  std::vector<float> padded(static_cast<std::size_t>(all * kGroup));
  std::vector<std::byte> q8(static_cast<std::size_t>(RowBytes(DType::kQ8_0, all * kGroup)));
  PackingLoss loss;
  const std::int64_t columns = std::min(kTileColumns, part.out - tile * kTileColumns);
  for (std::int64_t c = 0; c < columns; ++c) {
    YANGTUO_ASSIGN_OR_RETURN(const RowReader::Row stored, reader.Read(tile * kTileColumns + c));
    if (IsGrouped(stored.dtype)) {
      SplitRow(stored.dtype, stored.bytes, row);
    } else {
      YANGTUO_RETURN_IF_ERROR(AsQ8(stored, in_, padded, q8));
      SplitRow(DType::kQ8_0, q8, row);
      if (c == 0) {
        loss = LossOf(DType::kQ8_0, padded, q8);
      }
    }
    for (std::int64_t g = 0; g < all; ++g) {
      const WeightGroup& group = row[static_cast<std::size_t>(g)];
      const std::int64_t at = tile * all + g;
      PutCodes(group, part.format.codes, c, part.codes.data() + at * part.group_bytes());
      const std::int64_t base = tile * (all / per_base) + g / per_base;
      for (std::int64_t f = 0; f < factors; ++f) {
        part.bases.data()[(base * factors + f) * kTileColumns + c] = group.bases[f];
        if (per_base > 1) {
          part.steps.data()[(at * factors + f) * kTileColumns + c] = group.steps[f];
        }
      }
    }
  }
  return loss;
}

absl::StatusOr<GroupedLinear> GroupedLinear::Pack(std::span<const StoredMatrix> parts,
                                                  GroupedWorkspace& workspace) {
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  GroupedLinear linear(shape.in, shape.out);
  const std::int64_t groups = linear.groups();
  std::int64_t first = 0;
  for (const StoredMatrix& matrix : parts) {
    Part part{.format = FormatOf(IsGrouped(matrix.dtype) ? matrix.dtype : DType::kQ8_0),
              .first = first,
              .out = matrix.out,
              .codes = {},
              .bases = {},
              .steps = {}};
    first += matrix.out;
    const std::int64_t tiles = part.tiles();
    const std::int64_t factors = tiles * groups * part.factors() * kTileColumns;
    YANGTUO_ASSIGN_OR_RETURN(part.codes, AlignedBuffer<std::byte>::Create(static_cast<std::size_t>(
                                             tiles * groups * part.group_bytes())));
    YANGTUO_ASSIGN_OR_RETURN(
        part.bases,
        AlignedBuffer<float>::Create(static_cast<std::size_t>(factors / part.format.per_base)));
    if (part.format.per_base > 1) {
      YANGTUO_ASSIGN_OR_RETURN(
          part.steps, AlignedBuffer<std::int8_t>::Create(static_cast<std::size_t>(factors)));
    }
    std::vector<absl::StatusOr<PackingLoss>> packed(static_cast<std::size_t>(tiles));
    ParallelFor(workspace.options_.threads, tiles, [&](std::int64_t tile) {
      packed[static_cast<std::size_t>(tile)] = linear.PackTile(matrix, tile, part);
    });
    for (const absl::StatusOr<PackingLoss>& loss : packed) {
      YANGTUO_RETURN_IF_ERROR(loss.status());
      linear.loss_.Add(*loss);
    }
    linear.parts_.push_back(std::move(part));
  }
  return linear;
}

// Rows go through the kernels in blocks of nearly equal size.
struct GroupedLinear::Blocks {
  std::int64_t rows = 0;
  std::int64_t count = 0;

  [[nodiscard]] std::int64_t FirstRow(std::int64_t block) const {
    return block * (rows / count) + std::min(block, rows % count);
  }
  [[nodiscard]] std::int64_t RowsOf(std::int64_t block) const {
    return FirstRow(block + 1) - FirstRow(block);
  }
};

// Rounds the rows of a block, each group by itself, and lays them out for the kernels.
void GroupedLinear::Quantize(const Blocks& blocks, ConstMatrix x, std::int64_t block,
                             GroupedWorkspace& workspace) const {
  const IntegerKernels& rounding = *KernelsOf(workspace.options_.integer_path);
  const std::int64_t all = groups();
  const std::int64_t first = blocks.FirstRow(block);
  const std::int64_t rows = blocks.RowsOf(block);
  std::int8_t* const packed = workspace.x_.data() + first * all * kGroup;
  std::int32_t* const sums = workspace.sums_.data() + first * all * 2;
  float* const x_scales = workspace.x_scales_.data() + first * all;
  float* const x_sums = workspace.x_sums_.data() + first * all;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::span<const float> row = x.Row(first + r);
    for (std::int64_t g = 0; g < all; ++g) {
      const std::int64_t count = std::min(kGroup, in_ - g * kGroup);
      std::int8_t rounded[kGroup] = {};
      x_scales[g * rows + r] = rounding.quantize_row(
          row.subspan(static_cast<std::size_t>(g * kGroup), static_cast<std::size_t>(count)),
          std::span(rounded).first(static_cast<std::size_t>(count)));
      std::int32_t halves[2] = {};
      for (std::int64_t k = 0; k < kGroup; ++k) {
        halves[k / (kGroup / 2)] += rounded[k];
      }
      sums[2 * g * rows + r] = halves[0];
      sums[(2 * g + 1) * rows + r] = halves[1];
      x_sums[g * rows + r] = static_cast<float>(halves[0] + halves[1]);
      for (std::int64_t s = 0; s < kSteps; ++s) {
        std::memcpy(packed + ((g * kSteps + s) * rows + r) * kStep, rounded + s * kStep, kStep);
      }
    }
  }
  // What the sums of each part's groups begin with.
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const GroupedFormat& format = parts_[p].format;
    const std::int32_t zero = format.codes ? format.zero : workspace.kernels_->int8_zero;
    std::int32_t* const bias =
        workspace.biases_.data() + (static_cast<std::int64_t>(p) * blocks.rows + first) * all * 2;
    for (std::int64_t g = 0; g < all; ++g) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int32_t low = sums[2 * g * rows + r];
        const std::int32_t high = sums[(2 * g + 1) * rows + r];
        const bool halves = format.form == GroupForm::kHalves;
        bias[2 * g * rows + r] = -zero * (halves ? low : low + high);
        bias[(2 * g + 1) * rows + r] = -zero * high;
      }
    }
  }
}

void GroupedLinear::RunTile(const Blocks& blocks, std::size_t p, std::int64_t tile, Matrix y,
                            GroupedWorkspace& workspace) const {
  const Part& part = parts_[p];
  const std::int64_t all = groups();
  const std::int64_t width = part.factors() * kTileColumns;
  const float* factors = part.bases.data() + tile * all * width;
  if (part.format.per_base > 1) {
    float* const made = workspace.factors_.data() + omp_get_thread_num() * all * 2 * kTileColumns;
    const float* const bases = part.bases.data() + tile * (all / part.format.per_base) * width;
    const std::int8_t* const steps = part.steps.data() + tile * all * width;
    for (std::int64_t g = 0; g < all; ++g) {
      const float* const base = bases + g / part.format.per_base * width;
      for (std::int64_t i = 0; i < width; ++i) {
        made[g * width + i] = base[i] * static_cast<float>(steps[g * width + i]);
      }
    }
    factors = made;
  }
  const GroupedKernels& kernels = *workspace.kernels_;
  const auto form = static_cast<std::size_t>(part.format.form);
  const GroupedKernel kernel = part.format.codes ? kernels.codes[form] : kernels.int8[form];
  const std::int64_t columns = std::min(kTileColumns, part.out - tile * kTileColumns);
  alignas(64) float sums[8 * kTileColumns];
  for (std::int64_t block = 0; block < blocks.count; ++block) {
    const std::int64_t first = blocks.FirstRow(block);
    const std::int64_t rows = blocks.RowsOf(block);
    kernel({.rows = rows,
            .groups = all,
            .x = workspace.x_.data() + first * all * kGroup,
            .bias = workspace.biases_.data() +
                    (static_cast<std::int64_t>(p) * blocks.rows + first) * all * 2,
            .x_scales = workspace.x_scales_.data() + first * all,
            .x_sums = workspace.x_sums_.data() + first * all,
            .codes = part.codes.data() + tile * all * part.group_bytes(),
            .factors = factors,
            .sums = sums});
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(sums + r * kTileColumns, columns,
                  y.data() + (first + r) * out_ + part.first + tile * kTileColumns);
    }
  }
}

absl::Status GroupedLinear::Run(ConstMatrix x, Matrix y, GroupedWorkspace& workspace) const {
  const std::int64_t rows = x.dim(0);
  const int threads = rows * in_ * out_ < kTeamWork ? 1 : workspace.options_.threads;
  const std::int64_t at_once = workspace.kernels_->rows;
  const Blocks blocks{.rows = rows, .count = (rows + at_once - 1) / at_once};
  const std::int64_t all = groups();
  const auto parts = static_cast<std::int64_t>(parts_.size());
  try {
    Reserve(workspace.x_, rows * all * kGroup);
    Reserve(workspace.x_scales_, rows * all);
    Reserve(workspace.x_sums_, rows * all);
    Reserve(workspace.sums_, rows * all * 2);
    Reserve(workspace.biases_, parts * rows * all * 2);
    Reserve(workspace.factors_, threads * all * 2 * kTileColumns);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a matrix product");
  }
  ParallelFor(rows * in_ < kTeamValues ? 1 : threads, blocks.count,
              [&](std::int64_t block) { Quantize(blocks, x, block, workspace); });
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    // Several tiles in a row are one stream of weights.
    const std::int64_t tiles = parts_[p].tiles();
    const std::int64_t run = std::clamp<std::int64_t>(tiles / (threads * 16), 1, 8);
    ParallelFor(threads, (tiles + run - 1) / run, [&](std::int64_t i) {
      for (std::int64_t tile = i * run; tile < std::min(tiles, (i + 1) * run); ++tile) {
        RunTile(blocks, p, tile, y, workspace);
      }
    });
  }
  return absl::OkStatus();
}

std::int64_t GroupedLinear::bytes() const {
  std::int64_t bytes = 0;
  for (const Part& part : parts_) {
    bytes += static_cast<std::int64_t>(part.codes.size() + part.bases.size() * sizeof(float) +
                                       part.steps.size());
  }
  return bytes;
}

}  // namespace yangtuo::kernels
