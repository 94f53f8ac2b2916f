#include "inference_core/kernels/quick_int4.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "inference_core/base/cpu.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo::kernels {
namespace {

constexpr std::size_t kGroup = kInt4Group;
constexpr int kMostR = 15;
// The row's largest multiplier before rounding, one scale each: a smaller one leaves the others
// room to round, a larger one gives up the largest group's extreme.
constexpr std::array<float, 5> kLargestR = {15.0F, 14.0F, 13.0F, 12.0F, 16.0F};

using Group = std::array<float, kGroup>;

// To the nearest whole number, halves to even, below 2^22.
[[gnu::always_inline]] inline float Round(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

[[gnu::always_inline]] inline float NearestCode(float x, float inverse) {
  return std::min(std::max(Round(x * inverse), -8.0F), 7.0F);
}

// Sums over a group keep eight partial sums, so that compilers can use vectors of any width and
// every machine adds in the same order.
struct Partial {
  std::array<float, 8> sums = {};
  [[nodiscard]] float Total() const {
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) +
           ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  }
};

[[gnu::always_inline]] inline float ErrorOf(const Group& x, float step) {
  const float inverse = 1.0F / step;
  Partial error;
  for (std::size_t i = 0; i < kGroup; i += 8) {
    for (std::size_t j = 0; j < 8; ++j) {
      const float difference = x[i + j] - NearestCode(x[i + j], inverse) * step;
      error.sums[j] += difference * difference;
    }
  }
  return error.Total();
}

struct GroupChoice {
  int r = 0;
  float error = std::numeric_limits<float>::infinity();
};

// The best multiplier for a scale. `extreme` is the group's value of largest size: ideally it
// becomes -8 (the code that has no counterpart above zero), else 7.
[[gnu::always_inline]] inline GroupChoice BestMultiplier(const Group& x, float extreme,
                                                         float scale) {
  if (extreme == 0.0F) {
    return {.r = 0, .error = 0.0F};
  }
  const float inverse = 1.0F / scale;
  const auto low = static_cast<int>(Round(std::clamp(extreme / -8.0F * inverse, -99.0F, 99.0F)));
  const auto high = static_cast<int>(Round(std::clamp(extreme / 7.0F * inverse, -99.0F, 99.0F)));
  const int away = extreme < 0.0F ? 1 : -1;  // the sign of `low`
  GroupChoice best;
  const std::array<int, 4> candidates = {low, low - away, low + away, high};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i == 3 && high >= low - 1 && high <= low + 1) {
      break;
    }
    int r = std::clamp(candidates[i], -kMostR, kMostR);
    r = r == 0 ? away : r;
    const float error = ErrorOf(x, scale * static_cast<float>(r));
    if (error < best.error) {
      best = {.r = r, .error = error};
    }
  }
  return best;
}

// A row in groups, padded with zeros.
struct Groups {
  std::vector<Group> x;
  std::vector<float> extreme;

  explicit Groups(std::span<const float> row) {
    const std::size_t count = (row.size() + kGroup - 1) / kGroup;
    x.resize(count);
    extreme.resize(count);
    for (std::size_t c = 0; c < row.size(); ++c) {
      const float value = row[c];
      x[c / kGroup][c % kGroup] = value;
      float& largest = extreme[c / kGroup];
      largest = std::fabs(value) > std::fabs(largest) ? value : largest;
    }
  }
};

struct RowChoice {
  float scale = 0.0F;
  std::vector<int> r;
  double error = std::numeric_limits<double>::infinity();
};

[[gnu::always_inline]] inline RowChoice ChooseInAnyWidth(const Groups& groups, float scale) {
  RowChoice row{.scale = scale, .r = std::vector<int>(groups.x.size()), .error = 0.0};
  for (std::size_t g = 0; g < groups.x.size(); ++g) {
    const GroupChoice best = BestMultiplier(groups.x[g], groups.extreme[g], scale);
    row.r[g] = best.r;
    row.error += static_cast<double>(best.error);
  }
  return row;
}

RowChoice ChooseInBaseWidth(const Groups& groups, float scale) {
  return ChooseInAnyWidth(groups, scale);
}
[[gnu::target("avx2")]] RowChoice ChooseInAvx2(const Groups& groups, float scale) {
  return ChooseInAnyWidth(groups, scale);
}
RowChoice ChooseMultipliers(const Groups& groups, float scale) {
  return GetCpuFeatures().avx2 ? ChooseInAvx2(groups, scale) : ChooseInBaseWidth(groups, scale);
}

// The scale that is best for the multiples r * q of `row`, by least squares; 0 when there is none.
float FittedScale(const Groups& groups, const RowChoice& row) {
  double products = 0.0;
  double squares = 0.0;
  for (std::size_t g = 0; g < groups.x.size(); ++g) {
    if (row.r[g] == 0) {
      continue;
    }
    const auto r = static_cast<float>(row.r[g]);
    const float inverse = 1.0F / (row.scale * r);
    for (std::size_t i = 0; i < kGroup; ++i) {
      const double multiple = static_cast<double>(NearestCode(groups.x[g][i], inverse) * r);
      products += multiple * static_cast<double>(groups.x[g][i]);
      squares += multiple * multiple;
    }
  }
  return squares > 0.0 ? static_cast<float>(products / squares) : 0.0F;
}

bool UsableScale(float scale) {
  // Its inverse, and that of fifteen times it, must be ordinary numbers.
  return scale > 1e-35F && scale < 1e35F;
}

RowChoice ChooseRow(const Groups& groups) {
  float largest = 0.0F;
  for (const float extreme : groups.extreme) {
    largest = std::max(largest, std::fabs(extreme));
  }
  RowChoice best;
  best.r.assign(groups.x.size(), 0);
  for (const float largest_r : kLargestR) {
    const float scale = largest / (8.0F * largest_r);
    if (!UsableScale(scale)) {
      continue;
    }
    RowChoice row = ChooseMultipliers(groups, scale);
    if (row.error < best.error) {
      best = std::move(row);
    }
  }
  const float fitted = best.scale == 0.0F ? 0.0F : FittedScale(groups, best);
  if (UsableScale(fitted)) {
    RowChoice row = ChooseMultipliers(groups, fitted);
    if (row.error < best.error) {
      best = std::move(row);
    }
  }
  return best;
}

}  // namespace

void QuickInt4Row(std::span<const float> x, std::span<std::byte> row) {
  const Groups groups(x);
  const std::size_t count = groups.x.size();
  assert(row.size() == count * (kGroup / 2 + 1) + sizeof(float));
  const RowChoice choice = ChooseRow(groups);
  for (std::size_t g = 0; g < count; ++g) {
    const int r = choice.r[g];
    const float inverse = r == 0 ? 0.0F : 1.0F / (choice.scale * static_cast<float>(r));
    for (std::size_t i = 0; i < kGroup / 2; ++i) {
      const auto code = [&](std::size_t at) {
        return static_cast<unsigned>(static_cast<int>(NearestCode(groups.x[g][at], inverse)) + 8);
      };
      row[g * kGroup / 2 + i] = static_cast<std::byte>(code(i) | code(i + kGroup / 2) << 4U);
    }
    row[count * kGroup / 2 + g] = static_cast<std::byte>(static_cast<std::int8_t>(r));
  }
  std::memcpy(row.data() + row.size() - sizeof(float), &choice.scale, sizeof(float));
}

}  // namespace yangtuo::kernels
