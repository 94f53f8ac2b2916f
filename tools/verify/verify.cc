#include "tools/verify/verify.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/row_values.h"
#include "tools/convert/copy_tensors.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

class NoSink final : public TensorSink {
 public:
  absl::Status Append(std::size_t /*index*/, std::span<const std::byte> /*rows*/) override {
    return absl::OkStatus();
  }
  absl::Status Finish() override { return absl::OkStatus(); }
};

// One row of a source as floats.
class RowReader {
 public:
  RowReader(const TensorSource& source, std::size_t index)
      : source_(source),
        index_(index),
        spec_(source.tensors()[index]),
        stored_(static_cast<std::size_t>(spec_.row_bytes())),
        values_(static_cast<std::size_t>(spec_.cols())) {}

  absl::StatusOr<std::span<const float>> Read(std::int64_t row) {
    YANGTUO_RETURN_IF_ERROR(source_.ReadRows(index_, row, 1, stored_));
    WidenRow(spec_.dtype, stored_, values_);
    return std::span<const float>(values_);
  }

 private:
  const TensorSource& source_;
  std::size_t index_;
  const TensorSpec& spec_;
  std::vector<std::byte> stored_;
  std::vector<float> values_;
};

absl::Status MeasureValues(const TensorSource& here, const TensorSource& there,
                           TensorDifference& difference) {
  YANGTUO_ASSIGN_OR_RETURN(const std::size_t here_index, FindTensor(here, difference.name));
  YANGTUO_ASSIGN_OR_RETURN(const std::size_t there_index, FindTensor(there, difference.name));
  RowReader here_rows(here, here_index);
  RowReader there_rows(there, there_index);
  for (std::int64_t row = 0; row < difference.here.rows(); ++row) {
    YANGTUO_ASSIGN_OR_RETURN(const auto a, here_rows.Read(row));
    YANGTUO_ASSIGN_OR_RETURN(const auto b, there_rows.Read(row));
    for (std::size_t i = 0; i < a.size(); ++i) {
      const bool same = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]));
      if (!same) {
        ++difference.values;
        const double distance = std::abs(double{a[i]} - double{b[i]});
        difference.largest =
            std::isnan(distance) ? HUGE_VAL : std::max(difference.largest, distance);
      }
    }
  }
  // +0 and -0 are equal values of other bits.
  difference.kind = difference.values == 0 && difference.here.dtype != difference.there.dtype
                        ? TensorDifference::Kind::kType
                        : TensorDifference::Kind::kValues;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Manifest> DigestModel(const Checkpoint& checkpoint, std::int32_t threads,
                                     const std::function<void(std::int64_t bytes_read)>& progress) {
  YANGTUO_ASSIGN_OR_RETURN(const ConversionPlan plan,
                           PlanConversion(*checkpoint.tensors, SameTypes(), threads));
  NoSink sink;
  CopyOptions options;
  options.threads = threads;
  options.on_progress = progress;
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<CopiedTensor> tensors,
                           CopyTensors(*checkpoint.tensors, plan, sink, options));
  Manifest manifest;
  manifest.config = checkpoint.config.Canonical();
  std::vector<TensorDigest> ends;
  for (const CopiedTensor& tensor : tensors) {
    manifest.tensors.push_back({.spec = tensor.spec, .sha256 = tensor.sha256});
    ends.push_back({.spec = tensor.spec, .sha256 = tensor.ends_sha256});
  }
  manifest.fingerprint = FingerprintOf(ends);
  return manifest;
}

absl::StatusOr<std::vector<TensorDifference>> CompareModels(const Manifest& here,
                                                            const Manifest& there,
                                                            const TensorSource* here_values,
                                                            const TensorSource* there_values) {
  using Kind = TensorDifference::Kind;
  std::map<std::string, const TensorDigest*> others;
  for (const TensorDigest& tensor : there.tensors) {
    others.emplace(tensor.spec.name, &tensor);
  }
  std::vector<TensorDifference> differences;
  for (const TensorDigest& tensor : here.tensors) {
    TensorDifference difference;
    difference.name = tensor.spec.name;
    difference.here = tensor.spec;
    const auto found = others.find(tensor.spec.name);
    if (found == others.end()) {
      differences.push_back(difference);
      continue;
    }
    const TensorDigest& other = *found->second;
    others.erase(found);
    difference.there = other.spec;
    if (tensor.spec == other.spec && tensor.sha256 == other.sha256) {
      continue;
    }
    if (tensor.spec.shape != other.spec.shape) {
      difference.kind = Kind::kShape;
    } else if (here_values != nullptr && there_values != nullptr) {
      YANGTUO_RETURN_IF_ERROR(MeasureValues(*here_values, *there_values, difference));
    } else {
      difference.kind = Kind::kUnmeasured;
    }
    differences.push_back(std::move(difference));
  }
  for (const auto& [name, tensor] : others) {
    TensorDifference difference;
    difference.name = name;
    difference.kind = Kind::kAdded;
    difference.there = tensor->spec;
    differences.push_back(std::move(difference));
  }
  return differences;
}

std::string DescribeDifference(const TensorDifference& difference) {
  using Kind = TensorDifference::Kind;
  const std::string here(NameOf(difference.here.dtype));
  const std::string there(NameOf(difference.there.dtype));
  switch (difference.kind) {
    case Kind::kMissing:
      return absl::StrFormat("tensor %s: only in the first", difference.name);
    case Kind::kAdded:
      return absl::StrFormat("tensor %s: only in the second", difference.name);
    case Kind::kShape:
      return absl::StrFormat("tensor %s: shape [%s] and [%s]", difference.name,
                             absl::StrJoin(difference.here.shape, ", "),
                             absl::StrJoin(difference.there.shape, ", "));
    case Kind::kType:
      return absl::StrFormat("tensor %s: the same values as %s and %s", difference.name, here,
                             there);
    case Kind::kValues:
      return absl::StrFormat(
          "tensor %s: %d of %d values differ, by at most %.3g%s", difference.name,
          difference.values, difference.here.rows() * difference.here.cols(), difference.largest,
          here == there ? std::string() : absl::StrFormat(" (%s and %s)", here, there));
    case Kind::kUnmeasured:
      return here == there ? absl::StrFormat("tensor %s: other content", difference.name)
                           : absl::StrFormat("tensor %s: %s and %s", difference.name, here, there);
  }
  return difference.name;
}

absl::StatusOr<FileDigest> DigestFile(
    const fs::path& path, const std::function<void(std::int64_t bytes_read)>& progress) {
  constexpr std::size_t kAtOnce = std::size_t{8} << 20;
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  Sha256 digest;
  for (std::size_t at = 0; at < file.bytes().size(); at += kAtOnce) {
    const auto part = file.bytes().subspan(at, std::min(kAtOnce, file.bytes().size() - at));
    digest.Update(part);
    ForgetPages(part);
    progress(static_cast<std::int64_t>(at + part.size()));
  }
  FileDigest result{.path = path, .sha256 = digest.FinishHex()};
  result.known = FindKnownFile(result.sha256);
  return result;
}

std::vector<fs::path> PublishedFilesOf(const Checkpoint& checkpoint) {
  std::vector<fs::path> files;
  if (!checkpoint.tokenizer_file.empty()) {
    files.push_back(checkpoint.tokenizer_file);
  }
  std::error_code error;
  for (int i = 0; checkpoint.format == CheckpointFormat::kMeta; ++i) {
    fs::path path = checkpoint.path / absl::StrFormat("consolidated.%02d.pth", i);
    if (!fs::exists(path, error)) {
      break;
    }
    files.push_back(std::move(path));
  }
  return files;
}

}  // namespace yangtuo
