// What both implementations of grouped products in vectors of 256 bits share: included by each
// after grouped_body.h.

struct Vectors256 {
  static constexpr std::size_t kRows = 4;
  static constexpr std::size_t kVectors = 2;
  using Int = __m256i;
  using Float = __m256;
  YANGTUO_GROUPED_INLINE static Int Load(const void* src) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(src));
  }
  YANGTUO_GROUPED_INLINE static Int Broadcast4(const std::int8_t* x) {
    std::int32_t four = 0;
    std::memcpy(&four, x, sizeof(four));
    return _mm256_set1_epi32(four);
  }
  YANGTUO_GROUPED_INLINE static Int Zero() { return _mm256_setzero_si256(); }
  YANGTUO_GROUPED_INLINE static Int Low(Int both) {
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
  }
  YANGTUO_GROUPED_INLINE static Int High(Int both) { return Low(_mm256_srli_epi16(both, 4)); }
  YANGTUO_GROUPED_INLINE static Float Broadcast(float value) { return _mm256_set1_ps(value); }
  YANGTUO_GROUPED_INLINE static Float LoadFloats(const float* src) { return _mm256_loadu_ps(src); }
  YANGTUO_GROUPED_INLINE static void StoreFloats(float* dst, Float v) { _mm256_storeu_ps(dst, v); }
  YANGTUO_GROUPED_INLINE static Float ToFloat(Int sum, std::int32_t bias) {
    return _mm256_cvtepi32_ps(_mm256_add_epi32(sum, _mm256_set1_epi32(bias)));
  }
  YANGTUO_GROUPED_INLINE static Float Multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  YANGTUO_GROUPED_INLINE static Float Add(Float a, Float b) { return _mm256_add_ps(a, b); }
};
