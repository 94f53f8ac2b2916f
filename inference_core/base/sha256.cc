#include "inference_core/base/sha256.h"

#include <cstdio>
#include <cstdlib>
#include <openssl/evp.h>

namespace yangtuo {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

// OpenSSL's SHA-256 fails only without memory or with a broken installation. A digest decides which
// weights are compatible, so going on without one would corrupt answers.
void DieUnless(bool done) {
  if (!done) {
    std::fputs("OpenSSL cannot compute SHA-256: its installation is broken\n", stderr);
    std::abort();
  }
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* state) const { EVP_MD_CTX_free(state); }

Sha256::Sha256() : state_(EVP_MD_CTX_new()) {
  DieUnless(state_ != nullptr && EVP_DigestInit_ex(state_.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::Update(std::span<const std::byte> bytes) {
  DieUnless(EVP_DigestUpdate(state_.get(), bytes.data(), bytes.size()) == 1);
}

Sha256Digest Sha256::Finish() {
  Sha256Digest digest{};
  unsigned int size = 0;
  // Begins anew with the algorithm it has: naming it again would look it up, under a lock.
  DieUnless(EVP_DigestFinal_ex(state_.get(), reinterpret_cast<unsigned char*>(digest.data()),
                               &size) == 1 &&
            size == digest.size() && EVP_DigestInit_ex(state_.get(), nullptr, nullptr) == 1);
  return digest;
}

std::string Sha256::FinishHex() { return ToHex(Finish()); }

std::string ToHex(std::span<const std::byte> bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::byte b : bytes) {
    hex += kDigits[std::to_integer<std::size_t>(b >> 4)];
    hex += kDigits[std::to_integer<std::size_t>(b & std::byte{0x0F})];
  }
  return hex;
}

std::string Sha256Hex(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.Update(bytes);
  return digest.FinishHex();
}

}  // namespace yangtuo
