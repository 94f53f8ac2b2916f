#include "inference_core/grammar/code_points.h"

#include <algorithm>

namespace yangtuo {
namespace {

constexpr std::uint32_t kFirstSurrogate = 0xD800;
constexpr std::uint32_t kLastSurrogate = 0xDFFF;

}  // namespace

void CodePoints::Add(std::uint32_t low, std::uint32_t high) {
  if (low <= kLastSurrogate && high >= kFirstSurrogate) {
    if (low < kFirstSurrogate) {
      Add(low, kFirstSurrogate - 1);
    }
    if (high <= kLastSurrogate) {
      return;
    }
    low = kLastSurrogate + 1;
  }
  if (low > high) {
    return;
  }
  // Those that touch [low, high] become one with it.
  const auto first =
      std::find_if(ranges_.begin(), ranges_.end(), [&](Range r) { return r.high + 1 >= low; });
  const auto last = std::find_if(first, ranges_.end(), [&](Range r) { return r.low > high + 1; });
  if (first != last) {
    low = std::min(low, first->low);
    high = std::max(high, (last - 1)->high);
  }
  ranges_.insert(ranges_.erase(first, last), Range{low, high});
}

void CodePoints::Add(const CodePoints& other) {
  for (const Range range : other.ranges_) {
    Add(range.low, range.high);
  }
}

CodePoints CodePoints::Inverse() const {
  CodePoints inverse;
  std::uint32_t next = 0;
  for (const Range range : ranges_) {
    if (range.low > next) {
      inverse.Add(next, range.low - 1);
    }
    next = range.high + 1;
  }
  inverse.Add(next, kLastCodePoint);
  return inverse;
}

CodePoints CodePoints::And(const CodePoints& other) const {
  CodePoints both;
  for (const Range a : ranges_) {
    for (const Range b : other.ranges_) {
      both.Add(std::max(a.low, b.low), std::min(a.high, b.high));
    }
  }
  return both;
}

bool CodePoints::Contains(std::uint32_t code_point) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [&](Range r) { return r.low <= code_point && code_point <= r.high; });
}

std::optional<std::uint32_t> TakeCodePoint(std::string_view& text) {
  if (text.empty()) {
    return std::nullopt;
  }
  const auto lead = static_cast<std::uint8_t>(text[0]);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xC2 ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || text.size() < length) {
    return std::nullopt;
  }
  std::uint32_t code_point = length == 1 ? lead : lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    if ((byte & 0xC0U) != 0x80U) {
      return std::nullopt;
    }
    code_point = code_point << 6U | (byte & 0x3FU);
  }
  // Overlong, surrogate or too large: written otherwise, or not a character.
  if (code_point > kLastCodePoint ||
      (code_point >= kFirstSurrogate && code_point <= kLastSurrogate) ||
      ToUtf8(code_point).size() != length) {
    return std::nullopt;
  }
  text.remove_prefix(length);
  return code_point;
}

std::string ToUtf8(std::uint32_t code_point) {
  const auto tail = [&](unsigned shift) {
    return static_cast<char>(0x80U | (code_point >> shift & 0x3FU));
  };
  if (code_point < 0x80) {
    return {static_cast<char>(code_point)};
  }
  if (code_point < 0x800) {
    return {static_cast<char>(0xC0U | code_point >> 6U), tail(0)};
  }
  if (code_point < 0x10000) {
    return {static_cast<char>(0xE0U | code_point >> 12U), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0U | code_point >> 18U), tail(12), tail(6), tail(0)};
}

}  // namespace yangtuo
