// Integer products in vectors of 256 bits: no header of its own, each implementation includes it
// once, in its namespace, after it has defined
//   YANGTUO_INTEGER  what a function for its instruction set is declared with
// so that everything here is compiled for that instruction set and nothing is shared. How sums are
// made of products is its Dot D:
//   D::kRows, D::kCodeRows: rows whose sums fit the registers, of int8 and of codes
//   D::Weights, Prepare(w): 32 int8 weights as AddWeights wants them
//   AddWeights(sum, weights, four): sum + the products of int8 weights with int8 inputs
//   AddCodes(sum, codes, four): the same of codes 0 .. 15, of one group
//   Factors(multipliers), AddGroup(sum, group, factors): sum + group * multiplier, eight columns

#define YANGTUO_INTEGER_INLINE YANGTUO_INTEGER [[gnu::always_inline]] inline

// A tile's columns in two registers of eight.
constexpr std::size_t kHalves = 2;
// Steps of a group.
constexpr std::int64_t kSteps = kGroup / kStep;

YANGTUO_INTEGER_INLINE __m256i Load(const void* src) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(src));
}
YANGTUO_INTEGER_INLINE void Store(void* dst, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(dst), value);
}
YANGTUO_INTEGER_INLINE __m256i Broadcast4(const std::int8_t* x) {
  std::int32_t four = 0;
  std::memcpy(&four, x, sizeof(four));
  return _mm256_set1_epi32(four);
}

// Any address will do: one that cannot be read is not.
YANGTUO_INTEGER_INLINE void Prefetch(const std::byte* src) {
  _mm_prefetch(reinterpret_cast<const char*>(src), _MM_HINT_T0);
}

// sums += what the tile's registers hold.
template <std::size_t kRows>
YANGTUO_INTEGER_INLINE void AddSums(const __m256i (&acc)[kRows][kHalves], const TileProduct& t) {
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t h = 0; h < kHalves; ++h) {
      std::int32_t* const at = t.sums + static_cast<std::int64_t>(r) * t.sums_stride + h * 8;
      Store(at, _mm256_add_epi32(Load(at), acc[r][h]));
    }
  }
}

// One byte a code.
struct ExpandedCodes {
  const std::byte* weight;
  YANGTUO_INTEGER_INLINE __m256i operator()(int step, int half) const {
    return Load(weight + step * 64 + half * 32);
  }
};

// Two codes a byte.
struct PackedCodes {
  const std::byte* weight;
  __m256i low_half;
  YANGTUO_INTEGER_INLINE __m256i operator()(int step, int half) const {
    const __m256i both = Load(weight + step % 4 * 64 + half * 32);
    return _mm256_and_si256(step < 4 ? both : _mm256_srli_epi16(both, 4), low_half);
  }
};

template <std::size_t kRows>
YANGTUO_INTEGER_INLINE void ClearSums(__m256i (&acc)[kRows][kHalves]) {
  for (auto& row : acc) {
    row[0] = _mm256_setzero_si256();
    row[1] = _mm256_setzero_si256();
  }
}

template <typename D, std::size_t kRows>
YANGTUO_INTEGER void SumInt8Rows(const TileProduct& t) {
  __m256i acc[kRows][kHalves];
  ClearSums<kRows>(acc);
  const std::byte* weight = t.weight;
  const std::int64_t steps = t.groups * kSteps;
  const std::int8_t* x = t.x;
  for (std::int64_t s = 0; s < steps; ++s, weight += 64, x += kRows * kStep) {
    Prefetch(t.ahead + s * t.ahead_step);
    const typename D::Weights w0 = D::Prepare(Load(weight));
    const typename D::Weights w1 = D::Prepare(Load(weight + 32));
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256i four = Broadcast4(x + r * kStep);
      acc[r][0] = D::AddWeights(acc[r][0], w0, four);
      acc[r][1] = D::AddWeights(acc[r][1], w1, four);
    }
  }
  AddSums<kRows>(acc, t);
}

template <typename D, std::size_t kRows, typename Codes>
YANGTUO_INTEGER_INLINE void AddGroup(const TileProduct& t, std::int64_t group, const Codes& codes,
                                     __m256i (&acc)[kRows][kHalves]) {
  const std::int32_t* const bias = t.bias + group * std::int64_t{kRows};
  const std::int8_t* x = t.x + group * kGroup * std::int64_t{kRows};
  __m256i sums[kRows][kHalves];
  for (std::size_t r = 0; r < kRows; ++r) {
    sums[r][0] = _mm256_set1_epi32(bias[r]);
    sums[r][1] = sums[r][0];
  }
  for (int s = 0; s < kSteps; ++s, x += kRows * kStep) {
    const __m256i codes0 = codes(s, 0);
    const __m256i codes1 = codes(s, 1);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256i four = Broadcast4(x + r * kStep);
      sums[r][0] = D::AddCodes(sums[r][0], codes0, four);
      sums[r][1] = D::AddCodes(sums[r][1], codes1, four);
    }
  }
  const std::int8_t* const multipliers = t.multipliers + group * kTileColumns;
  const __m256i factor0 = D::Factors(multipliers);
  const __m256i factor1 = D::Factors(multipliers + 8);
  for (std::size_t r = 0; r < kRows; ++r) {
    acc[r][0] = D::AddGroup(acc[r][0], sums[r][0], factor0);
    acc[r][1] = D::AddGroup(acc[r][1], sums[r][1], factor1);
  }
}

template <typename D, std::size_t kRows>
YANGTUO_INTEGER void SumInt4ExpandedRows(const TileProduct& t) {
  __m256i acc[kRows][kHalves];
  ClearSums<kRows>(acc);
  for (std::int64_t group = 0; group < t.groups; ++group) {
    AddGroup<D, kRows>(t, group, ExpandedCodes{t.weight + group * kInt8GroupBytes}, acc);
  }
  AddSums<kRows>(acc, t);
}

template <typename D, std::size_t kRows>
YANGTUO_INTEGER void SumInt4Rows(const TileProduct& t) {
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i acc[kRows][kHalves];
  ClearSums<kRows>(acc);
  for (std::int64_t group = 0; group < t.groups; ++group) {
    const std::byte* const weight = t.weight + group * kInt4GroupBytes;
    for (std::int64_t line = 0; line < kInt4GroupBytes; line += 64) {
      Prefetch(t.ahead + group * kInt4GroupBytes + line);
    }
    AddGroup<D, kRows>(t, group, PackedCodes{weight, low_half}, acc);
  }
  AddSums<kRows>(acc, t);
}

template <typename D>
struct IntegerRows {
  template <std::size_t... kRow>
  static void Int8(const TileProduct& t, std::index_sequence<kRow...>) {
    static constexpr TileKernel kKernels[] = {SumInt8Rows<D, kRow + 1>...};
    kKernels[t.rows - 1](t);
  }
  template <std::size_t... kRow>
  static void Int4(const TileProduct& t, std::index_sequence<kRow...>) {
    static constexpr TileKernel kKernels[] = {SumInt4Rows<D, kRow + 1>...};
    kKernels[t.rows - 1](t);
  }
  template <std::size_t... kRow>
  static void Int4Expanded(const TileProduct& t, std::index_sequence<kRow...>) {
    static constexpr TileKernel kKernels[] = {SumInt4ExpandedRows<D, kRow + 1>...};
    kKernels[t.rows - 1](t);
  }
};

template <typename D>
void SumInt8(const TileProduct& t) {
  IntegerRows<D>::Int8(t, std::make_index_sequence<D::kRows>());
}
template <typename D>
void SumInt4(const TileProduct& t) {
  IntegerRows<D>::Int4(t, std::make_index_sequence<D::kCodeRows>());
}
template <typename D>
void SumInt4Expanded(const TileProduct& t) {
  IntegerRows<D>::Int4Expanded(t, std::make_index_sequence<D::kRows>());
}
