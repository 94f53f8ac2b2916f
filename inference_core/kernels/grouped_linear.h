#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/grouped_kernels.h"
#include "inference_core/kernels/grouped_rows.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/stored_rows.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo::kernels {

// Products with GGUF's blocks to the letter: Linear's and MatmulWorkspace's part for
// MatmulType::kGguf, with the same contracts.

// Activations of one product, and what each thread computes in. Grown to what was needed most.
class GroupedWorkspace {
 public:
  static absl::StatusOr<GroupedWorkspace> Create(const MatmulOptions& options);

 private:
  friend class GroupedLinear;
  GroupedWorkspace(const MatmulOptions& options, const GroupedKernels& kernels)
      : options_(options), kernels_(&kernels) {}

  MatmulOptions options_;
  const GroupedKernels* kernels_;
  AlignedBuffer<std::int8_t> x_;        // [blocks of rows][steps, rows, kStep]
  AlignedBuffer<float> x_scales_;       // [blocks of rows][groups, rows]
  AlignedBuffer<float> x_sums_;         // likewise: of the integers
  AlignedBuffer<std::int32_t> sums_;    // [blocks of rows][groups, 2, rows], of each half
  AlignedBuffer<std::int32_t> biases_;  // [parts][blocks of rows][groups, 2, rows]
  AlignedBuffer<float> factors_;        // [threads, groups, 2, kTileColumns]
};

class GroupedLinear {
 public:
  // Parts of types that are not computed with as they are become Q8_0.
  static absl::StatusOr<GroupedLinear> Pack(std::span<const StoredMatrix> parts,
                                            GroupedWorkspace& workspace);

  [[nodiscard]] absl::Status Run(ConstMatrix x, Matrix y, GroupedWorkspace& workspace) const;

  [[nodiscard]] std::int64_t bytes() const;
  [[nodiscard]] const PackingLoss& loss() const { return loss_; }

 private:
  // A matrix in tiles of columns, of one type.
  struct Part {
    GroupedFormat format;
    std::int64_t first = 0;  // of its columns
    std::int64_t out = 0;
    AlignedBuffer<std::byte> codes;    // [tiles, groups], as int8's or int4's
    AlignedBuffer<float> bases;        // [tiles, bases, factors, kTileColumns]
    AlignedBuffer<std::int8_t> steps;  // [tiles, groups, factors, kTileColumns]; none per group

    [[nodiscard]] std::int64_t tiles() const { return (out + kTileColumns - 1) / kTileColumns; }
    [[nodiscard]] std::int64_t factors() const { return FactorsOf(format.form); }
    [[nodiscard]] std::int64_t group_bytes() const {
      return format.codes ? kInt4GroupBytes : kInt8GroupBytes;
    }
  };
  struct Blocks;  // how a call's rows are cut

  explicit GroupedLinear(std::int64_t in, std::int64_t out) : in_(in), out_(out) {}

  [[nodiscard]] std::int64_t groups() const { return (in_ + kGroup - 1) / kGroup; }
  absl::StatusOr<PackingLoss> PackTile(const StoredMatrix& matrix, std::int64_t tile,
                                       Part& part) const;
  void Quantize(const Blocks& blocks, ConstMatrix x, std::int64_t block,
                GroupedWorkspace& workspace) const;
  void RunTile(const Blocks& blocks, std::size_t part, std::int64_t tile, Matrix y,
               GroupedWorkspace& workspace) const;

  std::int64_t in_;
  std::int64_t out_;
  std::vector<Part> parts_;
  PackingLoss loss_;
};

}  // namespace yangtuo::kernels
