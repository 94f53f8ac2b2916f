#pragma once

#include <cstddef>
#include <limits>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"

namespace yangtuo {

// One cache line, and one AVX-512 register.
constexpr std::size_t kBufferAlignment = 64;

namespace internal {
// Zeroed memory at a multiple of kBufferAlignment; null when there is none left. `bytes` > 0.
[[nodiscard]] void* AllocateZeroed(std::size_t bytes) noexcept;
void FreeZeroed(void* memory, std::size_t bytes) noexcept;
}  // namespace internal

// Owns `size()` elements at a 64-byte boundary, zero at creation. The size never changes.
// Move-only; a moved-from buffer is empty.
//
// Large buffers come straight from the system: their pages, huge ones of 2 MiB where the system
// gives them, cost nothing until one of their bytes is first written.
template <typename T>
class AlignedBuffer {
 public:
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

  AlignedBuffer() = default;

  // Throws std::bad_alloc as std::vector does; Create is for sizes that input decides.
  explicit AlignedBuffer(std::size_t size) {
    if (!TryAllocate(size)) {
      throw std::bad_alloc();
    }
  }

  // RESOURCE_EXHAUSTED when the memory cannot be had.
  static absl::StatusOr<AlignedBuffer> Create(std::size_t size) {
    AlignedBuffer buffer;
    if (!buffer.TryAllocate(size)) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("no memory for a buffer of %d elements of %d bytes", size, sizeof(T)));
    }
    return buffer;
  }

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() {
    if (data_ != nullptr) {
      internal::FreeZeroed(data_, size_ * sizeof(T));
    }
  }

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<T> span() { return {data_, size_}; }
  [[nodiscard]] std::span<const T> span() const { return {data_, size_}; }
  [[nodiscard]] T& operator[](std::size_t i) { return data_[i]; }
  [[nodiscard]] const T& operator[](std::size_t i) const { return data_[i]; }
  [[nodiscard]] T* begin() { return data_; }
  [[nodiscard]] T* end() { return data_ + size_; }
  [[nodiscard]] const T* begin() const { return data_; }
  [[nodiscard]] const T* end() const { return data_ + size_; }

 private:
  [[nodiscard]] bool TryAllocate(std::size_t size) {
    if (size == 0) {
      return true;
    }
    if (size > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(T)) {
      return false;
    }
    data_ = static_cast<T*>(internal::AllocateZeroed(size * sizeof(T)));
    size_ = data_ == nullptr ? 0 : size;
    return data_ != nullptr;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace yangtuo
