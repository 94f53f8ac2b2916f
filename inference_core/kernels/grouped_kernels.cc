#include "inference_core/kernels/grouped_kernels.h"

namespace yangtuo::kernels {
namespace {

std::int32_t Weight(const std::byte* group, bool codes, std::int64_t k, std::int64_t c) {
  const std::int64_t step = k / kStep;
  const std::int64_t place =
      (codes ? step % 4 : step) * (kStep * kTileColumns) + c * kStep + k % kStep;
  if (!codes) {
    return static_cast<std::int8_t>(group[place]);
  }
  return std::to_integer<std::int32_t>(step < 4 ? group[place] & std::byte{15} : group[place] >> 4);
}

template <bool kCodes, GroupForm kForm>
void Sum(const GroupedProduct& t) {
  constexpr std::int64_t kFirst = kForm == GroupForm::kHalves ? kGroup / 2 : kGroup;
  for (std::int64_t row = 0; row < t.rows; ++row) {
    for (std::int64_t c = 0; c < kTileColumns; ++c) {
      float sum = 0.0F;
      for (std::int64_t group = 0; group < t.groups; ++group) {
        const std::byte* const codes =
            t.codes + group * (kCodes ? kInt4GroupBytes : kInt8GroupBytes);
        const std::int32_t* const bias = t.bias + 2 * group * t.rows + row;
        const auto add = [&](std::int32_t start, std::int64_t first, std::int64_t last) {
          for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t step = group * (kGroup / kStep) + k / kStep;
            start += t.x[(step * t.rows + row) * kStep + k % kStep] * Weight(codes, kCodes, k, c);
          }
          return static_cast<float>(start);
        };
        const float* const factors = t.factors + group * FactorsOf(kForm) * kTileColumns + c;
        float term = add(bias[0], 0, kFirst) * factors[0];
        if constexpr (kForm == GroupForm::kHalves) {
          term = term + add(bias[t.rows], kFirst, kGroup) * factors[kTileColumns];
        } else if constexpr (kForm == GroupForm::kOffset) {
          term = term + t.x_sums[group * t.rows + row] * factors[kTileColumns];
        }
        sum = sum + term * t.x_scales[group * t.rows + row];
      }
      t.sums[row * kTileColumns + c] = sum;
    }
  }
}

}  // namespace

const GroupedKernels& PortableGroupedKernels() {
  static constexpr GroupedKernels kKernels = {
      .rows = 4,
      .int8_zero = 0,
      .codes = {Sum<true, GroupForm::kScale>, Sum<true, GroupForm::kOffset>},
      .int8 = {Sum<false, GroupForm::kScale>, Sum<false, GroupForm::kOffset>,
               Sum<false, GroupForm::kHalves>}};
  return kKernels;
}

const GroupedKernels* GroupedKernelsOf(IntegerPath path) {
  const IntegerKernels* const kernels = KernelsOf(path);
  if (kernels == nullptr) {
    return nullptr;
  }
  return kernels == &Avx512VnniIntegerKernels() ? &Avx512VnniGroupedKernels()
         : kernels == &AvxVnniIntegerKernels()  ? &AvxVnniGroupedKernels()
         : kernels == &Avx2IntegerKernels()     ? &Avx2GroupedKernels()
                                                : &PortableGroupedKernels();
}

}  // namespace yangtuo::kernels
