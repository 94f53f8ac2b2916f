#include "inference_core/checkpoint/stored_tensors.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/checkpoint/llama_tensors.h"

namespace yangtuo {
namespace {

class StoredSource final : public TensorSource {
 public:
  StoredSource(std::vector<StoredPlace> places, std::shared_ptr<const void> files)
      : places_(std::move(places)), files_(std::move(files)) {
    for (const StoredPlace& place : places_) {
      specs_.push_back(place.spec);
    }
  }

  [[nodiscard]] const std::vector<TensorSpec>& tensors() const override { return specs_; }

  absl::Status ReadRows(std::size_t index, std::int64_t first, std::int64_t count,
                        std::span<std::byte> rows) const override {
    const StoredPlace& place = places_[index];
    const auto row_bytes = static_cast<std::size_t>(place.spec.row_bytes());
    if (first < 0 || count < 0 || first > place.spec.rows() - count ||
        rows.size() != static_cast<std::size_t>(count) * row_bytes) {
      return absl::InternalError(
          absl::StrFormat("tensor %s: asked for rows %d to %d of %d in %d bytes", place.spec.name,
                          first, first + count, place.spec.rows(), rows.size()));
    }
    for (std::int64_t row = first; row < first + count; ++row) {
      CopyRow(place, row, rows.first(row_bytes));
      rows = rows.subspan(row_bytes);
    }
    return absl::OkStatus();
  }

  [[nodiscard]] std::span<const std::byte> Mapped(std::size_t index) const override {
    const StoredPlace& place = places_[index];
    const bool in_order = place.interleaved_head_dim == 0 && place.bands.size() == 1 &&
                          place.bands[0].parts.size() == 1 &&
                          !place.bands[0].parts[0].strided.has_value();
    return in_order ? place.bands[0].parts[0].bytes : std::span<const std::byte>();
  }

  void Forget(std::size_t index) const override {
    for (const StoredBand& band : places_[index].bands) {
      for (const StoredRows& part : band.parts) {
        ForgetPages(part.bytes);
      }
    }
  }

  [[nodiscard]] std::string Origin(std::size_t index) const override {
    std::string origin;
    for (const StoredBand& band : places_[index].bands) {
      for (const StoredRows& part : band.parts) {
        origin += (origin.empty() ? "" : ", ") + part.origin;
      }
    }
    return origin;
  }

 private:
  static void CopyRow(const StoredPlace& place, std::int64_t row, std::span<std::byte> to) {
    if (place.interleaved_head_dim > 0) {
      row = InterleavedRow(row, place.interleaved_head_dim);
    }
    std::size_t band = 0;
    while (row >= place.bands[band].rows) {
      row -= place.bands[band].rows;
      ++band;
    }
    for (const StoredRows& part : place.bands[band].parts) {
      const auto size = static_cast<std::size_t>(part.row_bytes);
      assert(size <= to.size());
      if (part.strided.has_value()) {
        CopyRows(*part.strided, row, 1, to.first(size));
      } else {
        std::memcpy(to.data(), part.bytes.data() + static_cast<std::size_t>(row) * size, size);
      }
      to = to.subspan(size);
    }
    assert(to.empty());
  }

  std::vector<StoredPlace> places_;
  std::vector<TensorSpec> specs_;
  std::shared_ptr<const void> files_;
};

}  // namespace

StoredRows RowsOf(const StoredTensor& tensor) {
  StoredRows rows{.bytes = tensor.data,
                  .row_bytes = tensor.bytes_per_row(),
                  .origin = absl::StrFormat("%s: tensor %s", tensor.file->string(), tensor.name)};
  if (!tensor.strides.empty()) {
    rows.strided = tensor;
  }
  return rows;
}

std::shared_ptr<const TensorSource> MakeStoredSource(std::vector<StoredPlace> places,
                                                     std::shared_ptr<const void> files) {
  return std::make_shared<StoredSource>(std::move(places), std::move(files));
}

}  // namespace yangtuo
