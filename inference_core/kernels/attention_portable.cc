#include <algorithm>
#include <cstring>
#include <limits>

#include "inference_core/kernels/attention_kernels.h"
#include "inference_core/kernels/narrow_lanes.h"

#define YANGTUO_ATTENTION

namespace yangtuo::kernels {
namespace {

// Four numbers: what every CPU of 64 bits has registers for.
using Floats [[gnu::vector_size(16)]] = float;
using Ints [[gnu::vector_size(16)]] = std::int32_t;

template <typename Vector>
[[gnu::always_inline]] inline Vector LoadAny(const void* src) {
  Vector vector;
  std::memcpy(&vector, src, sizeof(vector));
  return vector;
}

struct F32 {
  static constexpr KvType kType = KvType::kF32;
  static constexpr std::int64_t kWidth = 4;
  static constexpr std::size_t kQueries = 4;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 4;
  using Sum = Floats;
  using Stored = Floats;
  static Sum Zero() { return Floats{}; }
  static Sum LoadSum(const float* src) { return LoadAny<Floats>(src); }
  static void StoreSum(float* dst, Sum sum) { std::memcpy(dst, &sum, sizeof(sum)); }
  static Stored Load(const std::byte* src) { return LoadAny<Floats>(src); }
  static Stored WithoutSecond(Stored stored) { return stored; }
  static float LoadFactor(const std::byte* src) { return LoadAny<float>(src); }
  static Sum Add(Sum sum, Stored stored, float factor) { return sum + stored * factor; }
  static void StoreFactors(std::byte* dst, const Lanes& lanes) {
    std::memcpy(dst, &lanes, sizeof(lanes));
  }
};

struct Bf16 {
  static constexpr KvType kType = KvType::kBf16;
  static constexpr std::int64_t kWidth = 4;
  static constexpr std::size_t kQueries = 4;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 8;
  using Sum = Floats;
  struct Stored {
    Floats first;
    Floats second;
  };
  struct Factor {
    float first;
    float second;
  };
  static Sum Zero() { return Floats{}; }
  static Sum LoadSum(const float* src) { return LoadAny<Floats>(src); }
  static void StoreSum(float* dst, Sum sum) { std::memcpy(dst, &sum, sizeof(sum)); }
  static Stored Load(const std::byte* src) {
    const Ints pairs = LoadAny<Ints>(src);
    return {.first = reinterpret_cast<Floats>(pairs << 16),
            .second = reinterpret_cast<Floats>(pairs & -65536)};
  }
  static Stored WithoutSecond(Stored stored) { return {.first = stored.first, .second = Floats{}}; }
  static Factor LoadFactor(const std::byte* src) { return LoadAny<Factor>(src); }
  static Sum Add(Sum sum, Stored stored, Factor factor) {
    sum = sum + stored.second * factor.second;
    return sum + stored.first * factor.first;
  }
  static void StoreFactors(std::byte* dst, const Lanes& lanes) {
    std::memcpy(dst, &lanes, sizeof(lanes));
  }
};

struct Int8 {
  static constexpr KvType kType = KvType::kInt8;
  static constexpr std::int64_t kWidth = 4;
  static constexpr std::size_t kQueries = 4;
  static constexpr std::int64_t kStepBytes = 2;
  static constexpr std::int64_t kFactorBytes = 4;
  using Sum = Ints;
  struct Stored {
    Ints first;
    Ints second;
  };
  struct Factor {
    std::int16_t first;
    std::int16_t second;
  };
  static Sum Zero() { return Ints{}; }
  static Sum LoadSum(const float* src) { return LoadAny<Ints>(src); }
  static void StoreSum(float* dst, Sum sum) { std::memcpy(dst, &sum, sizeof(sum)); }
  static Stored Load(const std::byte* src) {
    Stored stored;
    for (int i = 0; i < 4; ++i) {
      stored.first[i] = static_cast<std::int8_t>(src[2 * i]);
      stored.second[i] = static_cast<std::int8_t>(src[2 * i + 1]);
    }
    return stored;
  }
  static Stored WithoutSecond(Stored stored) { return {.first = stored.first, .second = Ints{}}; }
  static Factor LoadFactor(const std::byte* src) { return LoadAny<Factor>(src); }
  static Sum Add(Sum sum, Stored stored, Factor factor) {
    return sum + stored.first * std::int32_t{factor.first} +
           stored.second * std::int32_t{factor.second};
  }
  static void StoreFactors(std::byte* dst, const Lanes& lanes) { StoreRoundedShorts(lanes, dst); }
};

#include "inference_core/kernels/attention_body.h"

}  // namespace

const AttentionKernels& PortableAttentionKernels() {
  static const AttentionKernels kernels = KernelsNamed("portable");
  return kernels;
}

}  // namespace yangtuo::kernels
