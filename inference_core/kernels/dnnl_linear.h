#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/stored_rows.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo::kernels {

// Products in f32 and bf16 by oneDNN: Linear's and MatmulWorkspace's part for these types, with the
// same contracts.

class DnnlWorkspace {
 public:
  static absl::StatusOr<DnnlWorkspace> Create(const MatmulOptions& options);

  DnnlWorkspace(DnnlWorkspace&&) noexcept;
  DnnlWorkspace& operator=(DnnlWorkspace&&) noexcept;
  ~DnnlWorkspace();

  [[nodiscard]] std::int64_t cached_primitives() const;

 private:
  friend class DnnlLinear;
  struct State;
  explicit DnnlWorkspace(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class DnnlLinear {
 public:
  static absl::StatusOr<DnnlLinear> Pack(std::span<const StoredMatrix> parts,
                                         DnnlWorkspace& workspace);

  DnnlLinear(DnnlLinear&&) noexcept;
  DnnlLinear& operator=(DnnlLinear&&) noexcept;
  ~DnnlLinear();

  [[nodiscard]] absl::Status Run(ConstMatrix x, Matrix y, DnnlWorkspace& workspace) const;

  [[nodiscard]] std::int64_t bytes() const;

 private:
  struct State;
  explicit DnnlLinear(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// oneDNN's name of what it uses, e.g. "avx512_core_vnni".
[[nodiscard]] std::string DnnlInstructionSet();

}  // namespace yangtuo::kernels
