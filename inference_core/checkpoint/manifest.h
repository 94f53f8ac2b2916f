#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/tensor_source.h"

namespace yangtuo {

// The content of one tensor: SHA-256 of its rows as stored, in Hugging Face's order, hexadecimal.
// Equal for equal values of one type, whatever container, shards or PyTorch version they lie in.
struct TensorDigest {
  TensorSpec spec;
  std::string sha256;
};

// What a model is, to the bit. Kept beside it as yangtuo.manifest.json (beside MODEL.gguf as
// MODEL.gguf.yangtuo.manifest.json), so that it need not be read through to be recognised.
struct Manifest {
  std::string config;  // LlamaConfig::Canonical()
  std::vector<TensorDigest> tensors;
  // FingerprintOf the tensors at that time: tells whether the manifest is of these files.
  std::string fingerprint;

  // SHA-256 over the configuration and every tensor's name, type, shape and digest, in order.
  [[nodiscard]] std::string Digest() const;
  [[nodiscard]] std::string Encode() const;
};

inline constexpr std::string_view kManifestName = "yangtuo.manifest.json";

// DATA_LOSS names `file` and what is wrong, a digest that does not match its tensors included.
absl::StatusOr<Manifest> ParseManifest(std::string_view json, std::string_view file);

// Of a model's folder or file; nullopt where there is none.
[[nodiscard]] std::filesystem::path ManifestPath(const std::filesystem::path& model);
absl::StatusOr<std::optional<Manifest>> ReadManifest(const std::filesystem::path& model);

// SHA-256 over names, types, shapes and `ends`' digests, which are of the first and last row of
// each tensor. Costs two rows a tensor, and tells models apart that were trained differently.
[[nodiscard]] std::string FingerprintOf(std::span<const TensorDigest> ends);
absl::StatusOr<std::string> FingerprintOf(const TensorSource& source);

}  // namespace yangtuo
