#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace yangtuo {

inline constexpr std::uint32_t kLastCodePoint = 0x10FFFF;

// A set of Unicode characters as ranges in order, apart from each other; surrogates are never in
// it, because UTF-8 cannot say them.
class CodePoints {
 public:
  struct Range {
    std::uint32_t low = 0;
    std::uint32_t high = 0;  // inclusive
  };

  CodePoints() = default;
  CodePoints(std::uint32_t low, std::uint32_t high) { Add(low, high); }
  [[nodiscard]] static CodePoints All() { return {0, kLastCodePoint}; }

  void Add(std::uint32_t low, std::uint32_t high);
  void Add(const CodePoints& other);
  [[nodiscard]] CodePoints Inverse() const;
  [[nodiscard]] CodePoints And(const CodePoints& other) const;
  [[nodiscard]] CodePoints Without(const CodePoints& other) const { return And(other.Inverse()); }

  [[nodiscard]] bool Contains(std::uint32_t code_point) const;
  [[nodiscard]] bool IsEmpty() const { return ranges_.empty(); }
  [[nodiscard]] const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

// Takes the first character off `text`; nullopt where it is not UTF-8 or empty.
[[nodiscard]] std::optional<std::uint32_t> TakeCodePoint(std::string_view& text);

// `code_point` is not a surrogate.
[[nodiscard]] std::string ToUtf8(std::uint32_t code_point);

}  // namespace yangtuo
