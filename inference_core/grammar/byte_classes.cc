#include "inference_core/grammar/byte_classes.h"

#include <bitset>

namespace yangtuo {

ByteClasses FindByteClasses(const Expressions& expressions) {
  std::bitset<257> begins;  // of a range
  for (const Expression& node : expressions.nodes()) {
    if (node.kind == ExpressionKind::kBytes) {
      begins.set(static_cast<std::size_t>(node.low));
      begins.set(static_cast<std::size_t>(node.high) + 1);
    }
  }
  ByteClasses classes;
  std::int32_t last = 0;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    last += byte > 0 && begins[byte] ? 1 : 0;
    classes.of_byte[byte] = static_cast<std::uint8_t>(last);
  }
  classes.count = last + 1;
  return classes;
}

}  // namespace yangtuo
