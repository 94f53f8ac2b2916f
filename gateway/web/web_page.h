#pragma once

#include <optional>
#include <string>
#include <string_view>

// The chat page: the files of this folder, embedded when the gateway is built.
namespace yangtuo::gateway {

struct WebFile {
  std::string_view content_type;
  std::string_view bytes;
};

// The file that a browser gets for a path ("/", "/chat.js"); empty for all others.
std::optional<WebFile> FindWebFile(std::string_view path);

// What the page may do, for its Content-Security-Policy header: run and load what this gateway
// serves and nothing else.
inline constexpr char kWebPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace yangtuo::gateway
