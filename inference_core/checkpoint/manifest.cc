#include "inference_core/checkpoint/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int kVersion = 1;
constexpr std::size_t kLargestManifest = std::size_t{16} << 20;

absl::Status Fault(std::string_view file, const std::string& what) {
  return absl::DataLossError(absl::StrFormat("%s: %s", file, what));
}

bool IsDigest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string TextAt(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

absl::StatusOr<TensorDigest> ParseTensor(const json& entry, std::string_view file) {
  TensorDigest tensor;
  const bool is_object = entry.is_object();
  tensor.spec.name = is_object ? TextAt(entry, "name") : "";
  const std::optional<DType> type = is_object ? DTypeNamed(TextAt(entry, "type")) : std::nullopt;
  tensor.sha256 = is_object ? TextAt(entry, "sha256") : "";
  const json shape = is_object ? entry.value("shape", json()) : json();
  const bool sizes = shape.is_array() && std::all_of(shape.begin(), shape.end(), [](const json& s) {
                       return s.is_number_unsigned();
                     });
  if (tensor.spec.name.empty() || !type.has_value() || !IsDigest(tensor.sha256) || !sizes) {
    return Fault(file, absl::StrFormat("expected a tensor's name, type, shape and sha256, found %s",
                                       Shown(entry)));
  }
  tensor.spec.dtype = *type;
  tensor.spec.shape = shape.get<std::vector<std::int64_t>>();
  return tensor;
}

std::string Line(const TensorSpec& spec) {
  return absl::StrFormat("%s %s [%s]", spec.name, NameOf(spec.dtype),
                         absl::StrJoin(spec.shape, ","));
}

}  // namespace

std::string Manifest::Digest() const {
  Sha256 digest;
  digest.Update(config);
  for (const TensorDigest& tensor : tensors) {
    digest.Update(absl::StrFormat("%s %s\n", Line(tensor.spec), tensor.sha256));
  }
  return digest.FinishHex();
}

std::string Manifest::Encode() const {
  ordered_json entries = ordered_json::array();
  for (const TensorDigest& tensor : tensors) {
    entries.push_back({{"name", tensor.spec.name},
                       {"type", NameOf(tensor.spec.dtype)},
                       {"shape", tensor.spec.shape},
                       {"sha256", tensor.sha256}});
  }
  const ordered_json manifest = {{"version", kVersion},
                                 {"digest", Digest()},
                                 {"fingerprint", fingerprint},
                                 {"config", config},
                                 {"tensors", entries}};
  return manifest.dump(1) + "\n";
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text, std::string_view file) {
  const absl::StatusOr<json> parsed = ParseStrictJson(text);
  if (!parsed.ok()) {
    return Fault(file, std::string(parsed.status().message()));
  }
  if (parsed->value("version", json()) != kVersion) {
    return Fault(file, absl::StrFormat("key \"version\": expected %d, found %s", kVersion,
                                       Shown(parsed->value("version", json()))));
  }
  Manifest manifest;
  manifest.config = TextAt(*parsed, "config");
  manifest.fingerprint = TextAt(*parsed, "fingerprint");
  const json entries = parsed->value("tensors", json());
  if (!entries.is_array() || !IsDigest(manifest.fingerprint)) {
    return Fault(file, "expected \"tensors\", a list, and \"fingerprint\", a digest");
  }
  for (const json& entry : entries) {
    YANGTUO_ASSIGN_OR_RETURN(TensorDigest tensor, ParseTensor(entry, file));
    manifest.tensors.push_back(std::move(tensor));
  }
  if (TextAt(*parsed, "digest") != manifest.Digest()) {
    return Fault(file, absl::StrFormat("its digest is %s, but its tensors give %s; it was changed",
                                       TextAt(*parsed, "digest"), manifest.Digest()));
  }
  return manifest;
}

fs::path ManifestPath(const fs::path& model) {
  std::error_code error;
  if (fs::is_directory(model, error)) {
    return model / kManifestName;
  }
  fs::path path = model;
  path += ".";
  path += kManifestName;
  return path;
}

absl::StatusOr<std::optional<Manifest>> ReadManifest(const fs::path& model) {
  const fs::path path = ManifestPath(model);
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (absl::IsNotFound(file.status())) {
    return std::optional<Manifest>();
  }
  YANGTUO_RETURN_IF_ERROR(file.status());
  if (file->bytes().size() > kLargestManifest) {
    return Fault(path.string(), absl::StrFormat("expected at most %d bytes, found %d",
                                                kLargestManifest, file->bytes().size()));
  }
  YANGTUO_ASSIGN_OR_RETURN(
      Manifest manifest,
      ParseManifest({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()},
                    path.string()));
  return std::optional(std::move(manifest));
}

std::string FingerprintOf(std::span<const TensorDigest> ends) {
  Sha256 digest;
  for (const TensorDigest& tensor : ends) {
    digest.Update(absl::StrFormat("%s %s\n", Line(tensor.spec), tensor.sha256));
  }
  return digest.FinishHex();
}

absl::StatusOr<std::string> FingerprintOf(const TensorSource& source) {
  std::vector<TensorDigest> ends;
  std::vector<std::byte> row;
  Sha256 digest;
  for (std::size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorSpec& spec = source.tensors()[i];
    row.resize(static_cast<std::size_t>(spec.row_bytes()));
    for (const std::int64_t place : {std::int64_t{0}, spec.rows() - 1}) {
      YANGTUO_RETURN_IF_ERROR(source.ReadRows(i, place, 1, row));
      digest.Update(row);
    }
    ends.push_back({.spec = spec, .sha256 = digest.FinishHex()});
  }
  return FingerprintOf(ends);
}

}  // namespace yangtuo
