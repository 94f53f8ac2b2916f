// What both AVX-512 implementations of attention share: included by each after it has defined
// YANGTUO_AVX512_TARGET.

#define YANGTUO_ATTENTION [[gnu::target(YANGTUO_AVX512_TARGET)]]
#define YANGTUO_AVX512_INLINE \
  [[gnu::target(YANGTUO_AVX512_TARGET), gnu::always_inline]] static inline

struct FloatSums {
  using Sum = __m512;
  static constexpr std::int64_t kWidth = 16;
  static constexpr std::size_t kQueries = 8;
  YANGTUO_AVX512_INLINE Sum Zero() { return _mm512_setzero_ps(); }
  YANGTUO_AVX512_INLINE Sum LoadSum(const float* src) { return _mm512_loadu_ps(src); }
  YANGTUO_AVX512_INLINE void StoreSum(float* dst, Sum sum) { _mm512_storeu_ps(dst, sum); }
};

struct F32 : FloatSums {
  static constexpr KvType kType = KvType::kF32;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 4;
  using Stored = __m512;
  YANGTUO_AVX512_INLINE Stored Load(const std::byte* src) { return _mm512_loadu_ps(src); }
  YANGTUO_AVX512_INLINE Stored WithoutSecond(Stored stored) { return stored; }
  YANGTUO_AVX512_INLINE __m512 LoadFactor(const std::byte* src) {
    return _mm512_set1_ps(*reinterpret_cast<const float*>(src));
  }
  // Not fused: other CPUs could not do the same at this speed.
  YANGTUO_AVX512_INLINE Sum Add(Sum sum, Stored stored, __m512 factor) {
    return _mm512_add_ps(sum, _mm512_mul_ps(stored, factor));
  }
  YANGTUO_AVX512_INLINE void StoreFactors(std::byte* dst, const Lanes& lanes) {
    std::memcpy(dst, &lanes, sizeof(lanes));
  }
};

YANGTUO_AVX512_INLINE __m512i BroadcastPair(const std::byte* src) {
  std::int32_t pair = 0;
  std::memcpy(&pair, src, sizeof(pair));
  return _mm512_set1_epi32(pair);
}

struct Int8 {
  static constexpr KvType kType = KvType::kInt8;
  static constexpr std::int64_t kWidth = 16;
  static constexpr std::size_t kQueries = 8;
  static constexpr std::int64_t kStepBytes = 2;
  static constexpr std::int64_t kFactorBytes = 4;
  using Sum = __m512i;
  using Stored = __m512i;
  YANGTUO_AVX512_INLINE Sum Zero() { return _mm512_setzero_si512(); }
  YANGTUO_AVX512_INLINE Sum LoadSum(const float* src) { return _mm512_loadu_si512(src); }
  YANGTUO_AVX512_INLINE void StoreSum(float* dst, Sum sum) { _mm512_storeu_si512(dst, sum); }
  YANGTUO_AVX512_INLINE Stored Load(const std::byte* src) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src)));
  }
  YANGTUO_AVX512_INLINE Stored WithoutSecond(Stored stored) {
    return _mm512_and_si512(stored, _mm512_set1_epi32(65535));
  }
  YANGTUO_AVX512_INLINE __m512i LoadFactor(const std::byte* src) { return BroadcastPair(src); }
  YANGTUO_AVX512_INLINE Sum Add(Sum sum, Stored stored, __m512i factor) {
    return AddProductsOfPairs(sum, stored, factor);
  }
  YANGTUO_AVX512_INLINE void StoreFactors(std::byte* dst, const Lanes& lanes) {
    StoreRoundedShorts(lanes, dst);
  }
};
