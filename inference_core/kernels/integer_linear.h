#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/integer_kernels.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/stored_rows.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo::kernels {

// Products in int8 and int4 by our own kernels: Linear's and MatmulWorkspace's part for these
// types, with the same contracts.

// Quantized activations of one product, and what each thread sums in. Grown to what was needed
// most.
class IntegerWorkspace {
 public:
  static absl::StatusOr<IntegerWorkspace> Create(const MatmulOptions& options);

 private:
  friend class IntegerLinear;
  IntegerWorkspace(const MatmulOptions& options, const IntegerKernels& kernels)
      : options_(options), kernels_(&kernels) {}

  MatmulOptions options_;
  const IntegerKernels* kernels_;
  AlignedBuffer<std::int8_t> rounded_;  // [threads, rows at once, in padded to groups]
  AlignedBuffer<std::int8_t> x_;        // [blocks of rows][steps, rows, kStep]
  AlignedBuffer<float> scales_;         // [rows]
  AlignedBuffer<std::int32_t> starts_;  // [rows]
  AlignedBuffer<std::int32_t> bias_;    // [blocks of rows][groups, rows], int4 only
  AlignedBuffer<std::int32_t> sums_;    // [threads, rows, columns at once]
  AlignedBuffer<std::byte> expanded_;   // [threads, kChunkBytes], int4 only
};

class IntegerLinear {
 public:
  static absl::StatusOr<IntegerLinear> Pack(std::span<const StoredMatrix> parts,
                                            IntegerWorkspace& workspace);

  // As Linear's of these names.
  [[nodiscard]] std::vector<std::span<const std::byte>> packed() const;
  static absl::StatusOr<IntegerLinear> Restore(
      const StackedShape& shape, const PackingLoss& loss,
      const std::function<absl::Status(std::span<std::byte>)>& fill, IntegerWorkspace& workspace);
  [[nodiscard]] absl::StatusOr<bool> AgreesWith(std::span<const StoredMatrix> parts,
                                                std::int64_t sample) const;

  [[nodiscard]] absl::Status Run(ConstMatrix x, Matrix y, IntegerWorkspace& workspace) const;

  [[nodiscard]] std::int64_t bytes() const;
  [[nodiscard]] const PackingLoss& loss() const { return loss_; }

 private:
  struct Layout {
    MatmulType type = MatmulType::kInt8;
    std::int64_t in = 0;
    std::int64_t out = 0;

    [[nodiscard]] std::int64_t groups() const { return (in + kGroup - 1) / kGroup; }
    [[nodiscard]] std::int64_t tiles() const { return (out + kTileColumns - 1) / kTileColumns; }
    [[nodiscard]] std::int64_t group_bytes() const {
      return type == MatmulType::kInt8 ? kInt8GroupBytes : kInt4GroupBytes;
    }
    [[nodiscard]] std::int64_t tile_bytes() const {
      const std::int64_t multipliers = type == MatmulType::kInt8 ? 0 : kTileColumns;
      return groups() * (group_bytes() + multipliers);
    }
  };
  struct Plan;  // how one call's rows are cut

  IntegerLinear(const Layout& layout, AlignedBuffer<std::byte> weight, AlignedBuffer<float> scales)
      : layout_(layout), weight_(std::move(weight)), scales_(std::move(scales)) {}

  // Zeros, of this shape.
  static absl::StatusOr<IntegerLinear> Allocate(const StackedShape& shape, MatmulType type);
  // Rows of `parts` from `first` on as tile `tile`. Returns the loss of the first one.
  absl::StatusOr<PackingLoss> PackTile(std::span<const StoredMatrix> parts, std::int64_t first,
                                       std::int64_t tile);
  [[nodiscard]] Plan PlanFor(std::int64_t rows, const IntegerWorkspace& workspace) const;
  void Quantize(const Plan& plan, ConstMatrix x, std::int64_t block,
                IntegerWorkspace& workspace) const;
  void RunTiles(const Plan& plan, std::int64_t first_tile, Matrix y,
                IntegerWorkspace& workspace) const;

  Layout layout_;
  AlignedBuffer<std::byte> weight_;  // [tiles, tile_bytes], see integer_kernels.h
  AlignedBuffer<float> scales_;      // [tiles, kTileColumns]
  PackingLoss loss_;
};

}  // namespace yangtuo::kernels
