#pragma once

#include <string>
#include <string_view>

namespace yangtuo::gateway {

// True for well-formed UTF-8: no overlong forms, surrogates or values above U+10FFFF.
bool IsUtf8(std::string_view bytes);

// The bytes with every maximal ill-formed part replaced by U+FFFD, as Unicode recommends (chapter
// 3.9, "substitution of maximal subparts"). Well-formed text returns unchanged.
std::string ReplaceInvalidUtf8(std::string_view bytes);

}  // namespace yangtuo::gateway
