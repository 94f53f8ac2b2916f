// Products with grouped scales: no header of its own, each implementation includes it once, in its
// namespace, after it has defined
//   YANGTUO_GROUPED  what a function for its instruction set is declared with
// and its vectors V:
//   V::kRows, V::kVectors: rows at once, vectors of a tile's columns
//   V::Int, V::Float: vectors of 32-bit sums
//   Load(p), Broadcast4(p), Zero(), Broadcast(float), LoadFloats(p), StoreFloats(p, v)
//   AddInt8(sum, weights, four), AddCodes(sum, codes, four): sum + products of four inputs
//   FinishCodes(sum): a group's sums of codes as 32-bit numbers
//   Low(bytes), High(bytes): the codes of a byte
//   ToFloat(sum, bias), Multiply(a, b), Add(a, b)

#define YANGTUO_GROUPED_INLINE YANGTUO_GROUPED [[gnu::always_inline]] inline

// Int8 weights of steps [kFirst, kFirst + kCount).
template <typename V, std::size_t kRows, std::size_t kFirst, std::size_t kCount>
YANGTUO_GROUPED_INLINE void SumSteps(const std::byte* codes, const std::int8_t* x,
                                     typename V::Int (&sums)[kRows][V::kVectors]) {
#pragma GCC unroll 8
  for (std::size_t s = kFirst; s < kFirst + kCount; ++s) {
    typename V::Int w[V::kVectors];
#pragma GCC unroll 2
    for (std::size_t v = 0; v < V::kVectors; ++v) {
      w[v] = V::Load(codes + s * 64 + v * (64 / V::kVectors));
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const typename V::Int four = V::Broadcast4(x + (s * kRows + r) * kStep);
#pragma GCC unroll 2
      for (std::size_t v = 0; v < V::kVectors; ++v) {
        sums[r][v] = V::AddInt8(sums[r][v], w[v], four);
      }
    }
  }
}

// Two 4-bit codes a byte.
template <typename V, std::size_t kRows>
YANGTUO_GROUPED_INLINE void SumCodes(const std::byte* codes, const std::int8_t* x,
                                     typename V::Int (&sums)[kRows][V::kVectors]) {
#pragma GCC unroll 4
  for (std::size_t s = 0; s < 4; ++s) {
    typename V::Int low[V::kVectors];
    typename V::Int high[V::kVectors];
#pragma GCC unroll 2
    for (std::size_t v = 0; v < V::kVectors; ++v) {
      const typename V::Int both = V::Load(codes + s * 64 + v * (64 / V::kVectors));
      low[v] = V::Low(both);
      high[v] = V::High(both);
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const typename V::Int first = V::Broadcast4(x + (s * kRows + r) * kStep);
      const typename V::Int second = V::Broadcast4(x + ((s + 4) * kRows + r) * kStep);
#pragma GCC unroll 2
      for (std::size_t v = 0; v < V::kVectors; ++v) {
        sums[r][v] = V::AddCodes(V::AddCodes(sums[r][v], low[v], first), high[v], second);
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t v = 0; v < V::kVectors; ++v) {
      sums[r][v] = V::FinishCodes(sums[r][v]);
    }
  }
}

template <typename V, std::size_t kRows>
YANGTUO_GROUPED_INLINE void Clear(typename V::Int (&sums)[kRows][V::kVectors]) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t v = 0; v < V::kVectors; ++v) {
      sums[r][v] = V::Zero();
    }
  }
}

template <typename V, bool kCodes, GroupForm kForm, std::size_t kRows>
YANGTUO_GROUPED void SumGroupedRows(const GroupedProduct& t) {
  using Float = typename V::Float;
  constexpr std::size_t kWidth = std::size_t{kTileColumns} / V::kVectors;
  constexpr std::size_t kFactors = kForm == GroupForm::kScale ? 1 : 2;
  Float acc[kRows][V::kVectors];
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < V::kVectors; ++v) {
      acc[r][v] = V::Broadcast(0.0F);
    }
  }
  const std::byte* codes = t.codes;
  const float* factors = t.factors;
  const std::int8_t* x = t.x;
  const std::int32_t* bias = t.bias;
  const float* x_scales = t.x_scales;
  const float* x_sums = t.x_sums;
  for (std::int64_t group = t.groups; group > 0; --group) {
    typename V::Int sums[kRows][V::kVectors];
    Float terms[kRows][V::kVectors];
    Clear<V, kRows>(sums);
    if constexpr (kCodes) {
      SumCodes<V, kRows>(codes, x, sums);
    } else {
      SumSteps<V, kRows, 0, kForm == GroupForm::kHalves ? 4 : 8>(codes, x, sums);
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (std::size_t v = 0; v < V::kVectors; ++v) {
        terms[r][v] =
            V::Multiply(V::ToFloat(sums[r][v], bias[r]), V::LoadFloats(factors + v * kWidth));
      }
    }
    if constexpr (kForm == GroupForm::kHalves) {
      Clear<V, kRows>(sums);
      SumSteps<V, kRows, 4, 4>(codes, x, sums);
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (std::size_t v = 0; v < V::kVectors; ++v) {
        Float term = terms[r][v];
        if constexpr (kForm != GroupForm::kScale) {
          const Float second = V::LoadFloats(factors + kTileColumns + v * kWidth);
          const Float times = kForm == GroupForm::kHalves ? V::ToFloat(sums[r][v], bias[kRows + r])
                                                          : V::Broadcast(x_sums[r]);
          term = V::Add(term, V::Multiply(times, second));
        }
        acc[r][v] = V::Add(acc[r][v], V::Multiply(term, V::Broadcast(x_scales[r])));
      }
    }
    codes += kCodes ? kInt4GroupBytes : kInt8GroupBytes;
    factors += kFactors * kTileColumns;
    x += kGroup * std::int64_t{kRows};
    bias += 2 * kRows;
    x_scales += kRows;
    x_sums += kForm == GroupForm::kOffset ? kRows : 0;
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < V::kVectors; ++v) {
      V::StoreFloats(t.sums + r * kTileColumns + v * kWidth, acc[r][v]);
    }
  }
}

template <typename V, bool kCodes, GroupForm kForm, std::size_t... kRow>
void SumGroupedOf(const GroupedProduct& t, std::index_sequence<kRow...>) {
  static constexpr GroupedKernel kKernels[] = {SumGroupedRows<V, kCodes, kForm, kRow + 1>...};
  kKernels[t.rows - 1](t);
}
template <typename V, bool kCodes, GroupForm kForm>
void SumGrouped(const GroupedProduct& t) {
  SumGroupedOf<V, kCodes, kForm>(t, std::make_index_sequence<V::kRows>());
}

template <typename V>
const GroupedKernels& GroupedKernelsIn() {
  static constexpr GroupedKernels kKernels = {
      .rows = V::kRows,
      .int8_zero = V::kInt8Zero,
      .codes = {SumGrouped<V, true, GroupForm::kScale>, SumGrouped<V, true, GroupForm::kOffset>},
      .int8 = {SumGrouped<V, false, GroupForm::kScale>, SumGrouped<V, false, GroupForm::kOffset>,
               SumGrouped<V, false, GroupForm::kHalves>}};
  return kKernels;
}
