#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace yangtuo {

using Sha256Digest = std::array<std::byte, 32>;

// SHA-256 of data that comes in pieces. Move-only, used by one thread.
class Sha256 {
 public:
  Sha256();

  void Update(std::span<const std::byte> bytes);
  void Update(std::string_view text) { Update(std::as_bytes(std::span(text))); }

  // The digest of everything so far; begins anew.
  [[nodiscard]] Sha256Digest Finish();
  [[nodiscard]] std::string FinishHex();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* state) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> state_;
};

// Lower-case hexadecimal.
[[nodiscard]] std::string ToHex(std::span<const std::byte> bytes);

[[nodiscard]] std::string Sha256Hex(std::span<const std::byte> bytes);
[[nodiscard]] inline std::string Sha256Hex(std::string_view text) {
  return Sha256Hex(std::as_bytes(std::span(text)));
}

}  // namespace yangtuo
