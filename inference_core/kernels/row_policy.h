#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "inference_core/kernels/linear.h"

namespace yangtuo::kernels {

struct MatmulShape {
  std::int64_t in = 0;
  std::int64_t out = 0;
};

// What a machine's matrix products promise.
struct RowPolicyFinding {
  RowPolicy policy;
  // CRC-32C over the bits of made-up products of the tested shapes. Machines with another number
  // sum in another order, even where both keep their promise to themselves.
  std::uint32_t fingerprint = 0;
};

struct RowPolicyQuestion {
  MatmulType type = MatmulType::kF32;
  std::span<const MatmulShape> shapes;
  int threads = 1;
  std::int64_t max_rows = 512;
};

// The least restrictive policy under which, for every shape, a row's product has the same bits in
// calls of any number of rows up to `max_rows`, at any place among them, on one thread and on
// `threads`. Runs products with made-up numbers: 0.1 s for small models, 2-3 s for a 7B one, whose
// large shapes are tried with fewer row counts. UNIMPLEMENTED when the CPU cannot multiply `type`
// or no policy holds.
absl::StatusOr<RowPolicyFinding> FindRowPolicy(const RowPolicyQuestion& question);

// Whether `policy` keeps that promise for one shape; what FindRowPolicy asks.
absl::StatusOr<bool> RowPolicyHolds(const RowPolicyQuestion& question, const MatmulShape& shape,
                                    const RowPolicy& policy, std::uint32_t& fingerprint);

}  // namespace yangtuo::kernels
