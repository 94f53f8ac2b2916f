// The body of the attention kernels: no header of its own, each implementation includes it once
// after it has defined
//   YANGTUO_ATTENTION  what a function for its instruction set is declared with
//   F32, Bf16, Int8    its vectors, see Arithmetic below
// so that everything here is compiled for that instruction set and nothing is shared.

// Arithmetic A of a KvType:
//   A::kType, A::kWidth: sums in a vector
//   A::kQueries: queries whose sums of two vectors fit the registers
//   A::kStepBytes: of one position's (key) or dimension's (value) neighbours that are contracted
//   A::kFactorBytes: of what a step is multiplied by
//   A::Sum, A::Stored, A::Factor: vectors of sums, of kWidth steps, of one factor in every lane
//   Zero(), LoadSum(p), StoreSum(p, sum), Load(p), LoadFactor(p), Add(sum, stored, factor)
//   WithoutSecond(stored): the second neighbours zero, which may be anything
//   StoreFactors(p, lanes): sixteen rounded numbers as factors

#define YANGTUO_ATTENTION_INLINE YANGTUO_ATTENTION [[gnu::always_inline]] inline

template <typename A>
constexpr std::int64_t kContracted = A::kType == KvType::kF32 ? 1 : 2;

template <typename A>
YANGTUO_ATTENTION void PackQuery(const float* query, float scale, std::int64_t head_dim,
                                 std::size_t at, PackedQueries& tile) {
  std::byte* to = tile.factors.data() + static_cast<std::int64_t>(at) * kFactorStride;
  tile.scales[at] = 1.0F;
  float factor = scale;
  if constexpr (A::kType == KvType::kInt8) {
    const Magnitude magnitude = MagnitudeOf(query, head_dim);
    factor = InverseScale(magnitude, 32767.0F);
    tile.scales[at] = Scale(magnitude, 32767.0F) * scale;
  }
  for (std::int64_t d = 0; d < head_dim; d += kLanes) {
    Lanes lanes;
    LoadPartly(query + d, head_dim - d, lanes);
    lanes *= factor;
    if constexpr (A::kType == KvType::kBf16) {
      RoundLanesToBf16(lanes);
    }
    A::StoreFactors(to, lanes);
    to += kLanes / kContracted<A> * A::kFactorBytes;
  }
}

// While a vector at `offset` of a piece of memory is read, asks for the one there in the piece that
// is read next: once a cache line.
YANGTUO_ATTENTION_INLINE void Prefetch(const std::byte* next, std::int64_t offset) {
  if (offset % 64 == 0) {
    __builtin_prefetch(next + offset, 0, 2);
  }
}

// How far `next` is from `piece`; nothing when it follows, since CPUs fetch that by themselves, and
// sooner.
YANGTUO_ATTENTION_INLINE std::int64_t DistanceOf(const std::byte* next, const std::byte* piece,
                                                 std::int64_t bytes) {
  return next == piece + bytes ? 0 : next - piece;
}

// Raw scores of queries [first, first + kCount) and of `blocks` blocks.
template <typename A, std::size_t kCount>
YANGTUO_ATTENTION_INLINE void ScoreBlocks(const AttentionTile& tile, std::size_t first,
                                          std::int64_t blocks) {
  constexpr std::int64_t kPositions = 2 * A::kWidth;
  const std::int64_t steps = tile.layout->head_dim / kContracted<A>;
  const std::int64_t key_bytes = tile.layout->key_bytes();
  const std::byte* const factors =
      tile.queries->factors.data() + static_cast<std::int64_t>(first) * kFactorStride;
  float* const scores =
      tile.scratch->scores.data() + static_cast<std::int64_t>(first) * kScoreStride;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::byte* const keys = tile.blocks->keys[static_cast<std::size_t>(b)];
    const std::byte* const next = b + 1 < blocks
                                      ? tile.blocks->keys[static_cast<std::size_t>(b + 1)]
                                      : tile.blocks->values[0];
    const std::int64_t distance = DistanceOf(next, keys, key_bytes);
    for (std::int64_t p = 0; p < kBlockPositions; p += kPositions) {
      const std::byte* key = keys + p * A::kStepBytes;
      typename A::Sum sums[kCount][2];
      for (std::size_t q = 0; q < kCount; ++q) {
        sums[q][0] = A::Zero();
        sums[q][1] = A::Zero();
      }
      const std::byte* factor = factors;
      for (std::int64_t step = 0; step < steps; ++step) {
        const typename A::Stored low = A::Load(key);
        const typename A::Stored high = A::Load(key + A::kWidth * A::kStepBytes);
        Prefetch(key + distance, 0);
        Prefetch(key + distance, A::kWidth * A::kStepBytes);
        for (std::size_t q = 0; q < kCount; ++q) {
          const auto x = A::LoadFactor(factor + static_cast<std::int64_t>(q) * kFactorStride);
          sums[q][0] = A::Add(sums[q][0], low, x);
          sums[q][1] = A::Add(sums[q][1], high, x);
        }
        key += kBlockPositions * A::kStepBytes;
        factor += A::kFactorBytes;
      }
      for (std::size_t q = 0; q < kCount; ++q) {
        float* const to =
            scores + static_cast<std::int64_t>(q) * kScoreStride + b * kBlockPositions + p;
        A::StoreSum(to, sums[q][0]);
        A::StoreSum(to + A::kWidth, sums[q][1]);
      }
    }
  }
}

// Scales of keys from position `p` of the span on; a block's scales of values follow.
YANGTUO_ATTENTION_INLINE const float* ScalesFrom(const AttentionTile& tile, std::int64_t p) {
  return tile.blocks->scales[static_cast<std::size_t>(p / kBlockPositions)] + p % kBlockPositions;
}

// Sixteen scores from position `p` of the span on, minus infinity where the query sees nothing.
template <typename A>
YANGTUO_ATTENTION_INLINE void LoadScores(const AttentionTile& tile, std::size_t q, std::int64_t p,
                                         Lanes& scores) {
  const float* const raw =
      tile.scratch->scores.data() + static_cast<std::int64_t>(q) * kScoreStride + p;
  LoadLanes(raw, scores);
  if constexpr (A::kType == KvType::kInt8) {
    Lanes key_scales;
    LoadLanes(ScalesFrom(tile, p), key_scales);
    scores = __builtin_convertvector(reinterpret_cast<IntLanes>(scores), Lanes) *
             (key_scales * tile.queries->scales[q]);
  }
  // Beyond what it sees the memory holds anything.
  for (std::int64_t lane = std::max<std::int64_t>(tile.visible[q] - p, 0); lane < kLanes; ++lane) {
    scores[lane] = -std::numeric_limits<float>::infinity();
  }
}

// Weights of one query as factors. Returns the factor that makes sums of integers numbers, 1 for
// floats.
template <typename A>
YANGTUO_ATTENTION_INLINE float Weigh(const AttentionTile& tile, std::size_t q, Partial& result) {
  const std::int64_t visible = tile.visible[q];
  float* const scores = tile.scratch->scores.data() + static_cast<std::int64_t>(q) * kScoreStride;
  std::byte* const weights =
      tile.scratch->weights.data() + static_cast<std::int64_t>(q) * kFactorStride;
  constexpr std::int64_t kBytes = kLanes / kContracted<A> * A::kFactorBytes;
  Lanes largest = Lanes{} - std::numeric_limits<float>::infinity();
  for (std::int64_t p = 0; p < visible; p += kLanes) {
    Lanes s;
    LoadScores<A>(tile, q, p, s);
    StoreLanes(s, scores + p);
    largest = s > largest ? s : largest;
  }
  result.top = LargestLane(largest);
  Lanes totals = {};
  Lanes largest_weight = {};
  Lanes weight_sum = {};
  for (std::int64_t p = 0; p < visible; p += kLanes) {
    Lanes e;
    LoadLanes(scores + p, e);
    e -= result.top;
    ExpLanes(e);
    if constexpr (A::kType == KvType::kBf16) {
      RoundLanesToBf16(e);
    }
    totals += e;
    if constexpr (A::kType == KvType::kInt8) {
      Lanes value_scales;
      LoadPartly(ScalesFrom(tile, p) + kBlockPositions, visible - p, value_scales);
      e *= value_scales;
      AddMagnitudes(e, largest_weight, weight_sum);
      StoreLanes(e, scores + p);
    } else {
      A::StoreFactors(weights + p / kLanes * kBytes, e);
    }
  }
  result.total = SumOfLanes(totals);
  if constexpr (A::kType == KvType::kInt8) {
    const Magnitude magnitude = JoinMagnitudes(largest_weight, weight_sum);
    const float inverse = InverseScale(magnitude, 32767.0F);
    for (std::int64_t p = 0; p < visible; p += kLanes) {
      Lanes e;
      LoadLanes(scores + p, e);
      e *= inverse;
      A::StoreFactors(weights + p / kLanes * kBytes, e);
    }
    return Scale(magnitude, 32767.0F);
  }
  return 1.0F;
}

// Sums of kVectors vectors of dimensions from `dim` on over the first `steps` steps of the span.
template <typename A, std::size_t kCount, std::size_t kVectors>
YANGTUO_ATTENTION_INLINE void AddValues(const AttentionTile& tile, std::size_t first,
                                        std::int64_t steps, std::int64_t dim) {
  constexpr std::int64_t kBlockSteps = kBlockPositions / kContracted<A>;
  const std::int64_t value_bytes = tile.layout->value_bytes();
  const std::int64_t step_bytes = tile.layout->value_stride() * A::kStepBytes;
  const std::int64_t dim_bytes = dim * A::kStepBytes;
  typename A::Sum sums[kCount][kVectors];
  for (std::size_t q = 0; q < kCount; ++q) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      sums[q][v] = A::Zero();
    }
  }
  const std::byte* weight =
      tile.scratch->weights.data() + static_cast<std::int64_t>(first) * kFactorStride;
  for (std::int64_t b = 0; b * kBlockSteps < steps; ++b) {
    const auto at_block = static_cast<std::size_t>(b);
    const std::byte* const values = tile.blocks->values[at_block];
    const bool last = (b + 1) * kBlockSteps >= steps;
    const std::byte* const next =
        last ? tile.blocks->keys[kSpanBlocks] : tile.blocks->values[at_block + 1];
    const std::int64_t distance = DistanceOf(next, values, value_bytes);
    const std::byte* value = values + dim_bytes;
    const std::int64_t count = std::min(kBlockSteps, steps - b * kBlockSteps);
    for (std::int64_t step = 0; step < count; ++step) {
      typename A::Stored stored[kVectors];
      for (std::size_t v = 0; v < kVectors; ++v) {
        const auto at = static_cast<std::int64_t>(v) * A::kWidth * A::kStepBytes;
        stored[v] = A::Load(value + at);
        Prefetch(value + distance, at);
      }
      for (std::size_t q = 0; q < kCount; ++q) {
        const auto x = A::LoadFactor(weight + static_cast<std::int64_t>(q) * kFactorStride);
        for (std::size_t v = 0; v < kVectors; ++v) {
          sums[q][v] = A::Add(sums[q][v], stored[v], x);
        }
      }
      value += step_bytes;
      weight += A::kFactorBytes;
    }
  }
  for (std::size_t q = 0; q < kCount; ++q) {
    float* const to =
        tile.scratch->sums.data() + static_cast<std::int64_t>(first + q) * kSumStride + dim;
    for (std::size_t v = 0; v < kVectors; ++v) {
      A::StoreSum(to + static_cast<std::int64_t>(v) * A::kWidth, sums[q][v]);
    }
  }
}

template <typename A, std::size_t kCount>
YANGTUO_ATTENTION_INLINE void AddAllValues(const AttentionTile& tile, std::size_t first,
                                           std::int64_t steps) {
  // As many dimensions at once as there are registers for: memory is best read in long pieces.
  constexpr std::size_t kVectors =
      std::max<std::size_t>(2, std::min<std::size_t>(8, 2 * A::kQueries / kCount));
  const std::int64_t stride = tile.layout->value_stride();
  std::int64_t dim = 0;
  for (; dim + static_cast<std::int64_t>(kVectors) * A::kWidth <= stride;
       dim += static_cast<std::int64_t>(kVectors) * A::kWidth) {
    AddValues<A, kCount, kVectors>(tile, first, steps, dim);
  }
  for (; dim < stride; dim += A::kWidth) {
    AddValues<A, kCount, 1>(tile, first, steps, dim);
  }
}

// The positions that query q sees beyond the first `steps` steps.
template <typename A>
YANGTUO_ATTENTION_INLINE void AddRest(const AttentionTile& tile, std::size_t q,
                                      std::int64_t steps) {
  constexpr std::int64_t kBlockSteps = kBlockPositions / kContracted<A>;
  const std::int64_t stride = tile.layout->value_stride();
  const std::byte* const weights =
      tile.scratch->weights.data() + static_cast<std::int64_t>(q) * kFactorStride;
  float* const sums = tile.scratch->sums.data() + static_cast<std::int64_t>(q) * kSumStride;
  for (std::int64_t step = steps; step * kContracted<A> < tile.visible[q]; ++step) {
    // What it must not see is not even multiplied by zero.
    const bool half = (step + 1) * kContracted<A> > tile.visible[q];
    const std::byte* const value =
        tile.blocks->values[static_cast<std::size_t>(step / kBlockSteps)] +
        step % kBlockSteps * stride * A::kStepBytes;
    const auto x = A::LoadFactor(weights + step * A::kFactorBytes);
    for (std::int64_t dim = 0; dim < stride; dim += A::kWidth) {
      typename A::Stored stored = A::Load(value + dim * A::kStepBytes);
      if (half) {
        stored = A::WithoutSecond(stored);
      }
      A::StoreSum(sums + dim, A::Add(A::LoadSum(sums + dim), stored, x));
    }
  }
}

template <typename A, std::size_t kCount>
YANGTUO_ATTENTION_INLINE void AttendTo(const AttentionTile& tile, std::size_t first,
                                       Partial* results) {
  std::int64_t most = 0;
  std::int64_t shared = kSpanPositions;
  for (std::size_t q = first; q < first + kCount; ++q) {
    most = std::max(most, tile.visible[q]);
    shared = std::min(shared, tile.visible[q]);
  }
  if (most == 0) {
    return;
  }
  ScoreBlocks<A, kCount>(tile, first, (most + kBlockPositions - 1) / kBlockPositions);
  float factors[kCount] = {};
  for (std::size_t q = 0; q < kCount; ++q) {
    if (tile.visible[first + q] > 0) {
      factors[q] = Weigh<A>(tile, first + q, results[first + q]);
    }
  }
  const std::int64_t steps = shared / kContracted<A>;
  AddAllValues<A, kCount>(tile, first, steps);
  for (std::size_t q = 0; q < kCount; ++q) {
    AddRest<A>(tile, first + q, steps);
    float* const sums =
        tile.scratch->sums.data() + static_cast<std::int64_t>(first + q) * kSumStride;
    results[first + q].sums = sums;
    if constexpr (A::kType == KvType::kInt8) {
      for (std::int64_t d = 0; d < tile.layout->value_stride(); d += kLanes) {
        Lanes lanes;
        LoadLanes(sums + d, lanes);
        lanes = __builtin_convertvector(reinterpret_cast<IntLanes>(lanes), Lanes) * factors[q];
        StoreLanes(lanes, sums + d);
      }
    }
  }
}

template <typename A>
YANGTUO_ATTENTION void Attend(const AttentionTile& tile, Partial* results) {
  std::size_t first = 0;
  if constexpr (A::kQueries >= 8) {
    for (; first + 8 <= tile.count; first += 8) {
      AttendTo<A, 8>(tile, first, results);
    }
  }
  for (; first + 4 <= tile.count; first += 4) {
    AttendTo<A, 4>(tile, first, results);
  }
  if (first + 2 <= tile.count) {
    AttendTo<A, 2>(tile, first, results);
    first += 2;
  }
  if (first < tile.count) {
    AttendTo<A, 1>(tile, first, results);
  }
}

YANGTUO_ATTENTION void Join(const Partial& next, std::int64_t value_stride, Partial& state) {
  const float top = std::max(state.top, next.top);
  Lanes shares = {};
  shares[0] = state.top - top;
  shares[1] = next.top - top;
  ExpLanes(shares);
  const float old_share = shares[0];
  const float new_share = shares[1];
  state.top = top;
  state.total = state.total * old_share + next.total * new_share;
  for (std::int64_t d = 0; d < value_stride; d += kLanes) {
    Lanes sums;
    Lanes added;
    LoadLanes(state.sums + d, sums);
    LoadLanes(next.sums + d, added);
    sums = sums * old_share + added * new_share;
    StoreLanes(sums, state.sums + d);
  }
}

[[nodiscard]] AttentionKernels KernelsNamed(std::string_view name) {
  return {.name = name,
          .types = {{{.pack = PackQuery<F32>, .attend = Attend<F32>},
                     {.pack = PackQuery<Bf16>, .attend = Attend<Bf16>},
                     {.pack = PackQuery<Int8>, .attend = Attend<Int8>}}},
          .join = Join};
}
