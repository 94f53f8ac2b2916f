#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace yangtuo {

static_assert(std::endian::native == std::endian::little, "files are little endian");

template <typename T>
concept PlainNumber = std::is_arithmetic_v<T>;

// Takes little-endian numbers and runs of bytes from the front of `bytes`; never beyond the end.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // Nullopt, and nothing is taken, when too little is left.
  template <PlainNumber T>
  [[nodiscard]] std::optional<T> Take() {
    if (left() < sizeof(T)) {
      return std::nullopt;
    }
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  [[nodiscard]] std::optional<std::span<const std::byte>> TakeBytes(std::uint64_t count) {
    if (left() < count) {
      return std::nullopt;
    }
    const auto taken = bytes_.subspan(offset_, static_cast<std::size_t>(count));
    offset_ += taken.size();
    return taken;
  }

  [[nodiscard]] std::optional<std::string_view> TakeText(std::uint64_t count) {
    const auto taken = TakeBytes(count);
    return taken.has_value() ? std::optional(std::string_view(
                                   reinterpret_cast<const char*>(taken->data()), taken->size()))
                             : std::nullopt;
  }

  [[nodiscard]] std::size_t offset() const { return offset_; }
  [[nodiscard]] std::size_t left() const { return bytes_.size() - offset_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
};

}  // namespace yangtuo
