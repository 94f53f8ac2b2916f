#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/kernels/integer_kernels.h"
#include "inference_core/kernels/packing_loss.h"
#include "inference_core/kernels/stored_rows.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo::kernels {

// What a product multiplies; results are f32.
//
// kF32, kBF16: oneDNN's products, sums in f32. kBF16 rounds activations to bf16.
// kInt8, kInt4: our own; weights as DType::kInt8 and kInt4 define them, activations rounded to int8
// per row, sums in integers, so that a row's result is the same in every call on every machine.
// kGguf: our own; GGUF's blocks to the letter, part by part in the type it is stored in (other
// types and Q2_K as Q8_0), activations rounded to int8 per group of 32, see grouped_kernels.h.
enum class MatmulType : std::uint8_t { kF32, kBF16, kInt8, kInt4, kGguf };

[[nodiscard]] constexpr bool IsInteger(MatmulType type) {
  return type == MatmulType::kInt8 || type == MatmulType::kInt4 || type == MatmulType::kGguf;
}

// How many rows oneDNN may be given at once, so that a row's result is the same bits in every call.
// oneDNN chooses kernels by row count, and not all of them sum in the same order; FindRowPolicy
// measures which policy holds on a machine. Integer types need none.
struct RowPolicy {
  std::int64_t min_rows = 1;  // fewer rows are padded with zeros
  std::int64_t tile_rows =
      0;  // 0: any number at once; else always exactly so many, one thread each

  [[nodiscard]] std::string Name() const;  // "any-rows", "2-rows-up", "4-row-tiles"
  friend bool operator==(const RowPolicy&, const RowPolicy&) = default;
};

struct MatmulOptions {
  MatmulType type = MatmulType::kF32;
  RowPolicy row_policy = {};
  IntegerPath integer_path = IntegerPath::kFastest;
  int threads = 1;
};

// Whether the CPU multiplies bf16 itself, within what DNNL_MAX_CPU_ISA allows. (Without, kBF16 is
// emulated on AVX-512 and refused below it.)
[[nodiscard]] bool HasFastBf16();
// The instruction set that products of `type` use: oneDNN's, e.g. "avx512_core_vnni", or that of
// our integer kernels, e.g. "avx2".
[[nodiscard]] std::string MatmulInstructionSet(MatmulType type, IntegerPath path);

// What the linear layers of a model share: oneDNN's engine, its primitives by shape and row count
// (a bounded cache: creating one costs 40-400 us, a hit 2 us), and scratch memory.
//
// Not thread-safe: one owner runs one product at a time, itself on `threads` threads.
class MatmulWorkspace {
 public:
  // UNIMPLEMENTED when the CPU cannot do `options.type`.
  static absl::StatusOr<MatmulWorkspace> Create(const MatmulOptions& options);

  MatmulWorkspace(MatmulWorkspace&&) noexcept;
  MatmulWorkspace& operator=(MatmulWorkspace&&) noexcept;
  ~MatmulWorkspace();

  [[nodiscard]] const MatmulOptions& options() const;
  [[nodiscard]] std::int64_t cached_primitives() const;

 private:
  friend class Linear;
  struct State;  // keeps oneDNN out of every file that includes this one
  explicit MatmulWorkspace(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// y = x * weight^T, with the weight packed once for the CPU that runs it. Immutable.
class Linear {
 public:
  // Packs `parts`, one below the other (q, k and v become one product), a few rows at a time, so
  // that no second copy of the whole exists. The parts' memory may go afterwards. Parts stored in
  // the integer type that is computed with keep their numbers; others are quantized to it.
  static absl::StatusOr<Linear> Pack(std::span<const StoredMatrix> parts,
                                     MatmulWorkspace& workspace);

  // What Pack made in int8 or int4, in parts of bytes: the same for every instruction set. None
  // for other types: oneDNN packs for one machine, and GGUF's blocks are packed as fast as read.
  [[nodiscard]] std::vector<std::span<const std::byte>> packed() const;
  // A weight of `shape` from such parts: `fill` is called for each, in order; `loss` is what Pack
  // had found. UNIMPLEMENTED for types that have none.
  static absl::StatusOr<Linear> Restore(
      const StackedShape& shape, const PackingLoss& loss,
      const std::function<absl::Status(std::span<std::byte>)>& fill, MatmulWorkspace& workspace);
  // Whether a few rows, which ones follows from `sample`, are what Pack makes of `parts`.
  [[nodiscard]] absl::StatusOr<bool> AgreesWith(std::span<const StoredMatrix> parts,
                                                std::int64_t sample) const;

  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;
  ~Linear();

  // `x` is [tokens, in], `y` is [tokens, out], `workspace` one with the options of Pack's. A row of
  // y depends on that row of x only, to the bit, under a row policy that holds here.
  [[nodiscard]] absl::Status Run(ConstMatrix x, Matrix y, MatmulWorkspace& workspace) const;

  [[nodiscard]] std::int64_t in() const;
  [[nodiscard]] std::int64_t out() const;
  // Memory that the packed weight takes.
  [[nodiscard]] std::int64_t bytes() const;
  // Of integer types; f32 and bf16 say nothing.
  [[nodiscard]] PackingLoss loss() const;

 private:
  struct State;
  explicit Linear(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo::kernels
