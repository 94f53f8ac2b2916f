#include "inference_core/checkpoint/merged_tensors.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/lora_sums.h"
#include "inference_core/checkpoint/row_values.h"

namespace yangtuo {
namespace {

// Rows whose sums are in memory at once.
constexpr std::int64_t kRowsAtOnce = 32;

// One adapter's change of a tensor.
struct Step {
  const PeftAdapter* adapter = nullptr;
  const LoraPair* pair = nullptr;
};

// How a tensor comes about: a tensor to begin with, and what is added to it.
struct Recipe {
  std::size_t base_index = 0;           // unless `saved`
  const StoredTensor* saved = nullptr;  // an adapter's copy, of the last that has one
  std::vector<Step> steps;              // after it
};

// Row `row` as floats.
void ReadRow(const StoredTensor& tensor, std::int64_t row, std::span<float> values) {
  std::vector<std::byte> stored(static_cast<std::size_t>(tensor.bytes_per_row()));
  CopyRows(tensor, row, 1, stored);
  WidenRow(tensor.dtype, stored, values);
}

std::vector<float> ReadFactorRow(const StoredTensor& factor, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(factor.shape.back()));
  ReadRow(factor, row, values);
  return values;
}

// The factors for rows [first, first + count) of a tensor with `cols` columns. With fan_in_fan_out
// the tensor is stored [in, out] and its change is (b x a) transposed: row i takes column i of a.
struct Factors {
  std::vector<double> left;  // [count, rank]
  RightFactor right;         // [rank, cols]
};

struct Rows {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

Factors ReadFactors(const Step& step, Rows rows, std::int64_t cols) {
  const std::int64_t rank = step.adapter->config.rank;
  Factors factors{.left = std::vector<double>(static_cast<std::size_t>(rows.count * rank)),
                  .right = RightFactor(rank, cols)};
  if (!step.adapter->config.fan_in_fan_out) {
    for (std::int64_t k = 0; k < rank; ++k) {
      factors.right.SetRow(k, ReadFactorRow(step.pair->a, k));
    }
    for (std::int64_t i = 0; i < rows.count; ++i) {
      const std::vector<float> row = ReadFactorRow(step.pair->b, rows.first + i);
      std::copy(row.begin(), row.end(), factors.left.begin() + i * rank);
    }
    return factors;
  }
  std::vector<std::vector<float>> transposed(static_cast<std::size_t>(rank),
                                             std::vector<float>(static_cast<std::size_t>(cols)));
  for (std::int64_t j = 0; j < cols; ++j) {
    const std::vector<float> row = ReadFactorRow(step.pair->b, j);
    for (std::size_t k = 0; k < row.size(); ++k) {
      transposed[k][static_cast<std::size_t>(j)] = row[k];
    }
  }
  for (std::int64_t k = 0; k < rank; ++k) {
    factors.right.SetRow(k, transposed[static_cast<std::size_t>(k)]);
    const std::vector<float> row = ReadFactorRow(step.pair->a, k);
    for (std::int64_t i = 0; i < rows.count; ++i) {
      factors.left[static_cast<std::size_t>(i * rank + k)] =
          row[static_cast<std::size_t>(rows.first + i)];
    }
  }
  return factors;
}

class MergedSource final : public TensorSource {
 public:
  MergedSource(const Checkpoint& base, const LlamaConfig& config, std::vector<PeftAdapter> adapters,
               DType rounding)
      : base_(base.tensors), adapters_(std::move(adapters)), rounding_(rounding) {
    for (const LlamaTensor& tensor : ListLlamaTensors(config)) {
      const std::string name = HfName(tensor);
      specs_.push_back({.name = name, .dtype = rounding, .shape = tensor.shape});
      recipes_.push_back(RecipeFor(name));
    }
  }

  [[nodiscard]] const std::vector<TensorSpec>& tensors() const override { return specs_; }

  absl::Status ReadRows(std::size_t index, std::int64_t first, std::int64_t count,
                        std::span<std::byte> rows) const override {
    const TensorSpec& spec = specs_[index];
    if (first < 0 || count < 0 || first > spec.rows() - count ||
        rows.size() != static_cast<std::size_t>(count * spec.row_bytes())) {
      return absl::InternalError(
          absl::StrFormat("tensor %s: asked for rows %d to %d of %d in %d "
                          "bytes",
                          spec.name, first, first + count, spec.rows(), rows.size()));
    }
    std::vector<Factors> factors;
    for (const Step& step : recipes_[index].steps) {
      factors.push_back(ReadFactors(step, {.first = first, .count = count}, spec.cols()));
    }
    const auto row_bytes = static_cast<std::size_t>(spec.row_bytes());
    for (std::int64_t done = 0; done < count; done += kRowsAtOnce) {
      const Rows part{.first = first + done, .count = std::min(kRowsAtOnce, count - done)};
      const auto to = rows.subspan(static_cast<std::size_t>(done) * row_bytes,
                                   static_cast<std::size_t>(part.count) * row_bytes);
      YANGTUO_RETURN_IF_ERROR(MergeRows(index, part, {.done = done, .factors = factors}, to));
    }
    return absl::OkStatus();
  }

  [[nodiscard]] std::span<const std::byte> Mapped(std::size_t index) const override {
    const Recipe& recipe = recipes_[index];
    if (!recipe.steps.empty()) {
      return {};
    }
    if (recipe.saved != nullptr) {
      const bool as_stored = recipe.saved->dtype == rounding_ && recipe.saved->strides.empty();
      return as_stored ? recipe.saved->data : std::span<const std::byte>();
    }
    const bool same = base_->tensors()[recipe.base_index].dtype == rounding_;
    return same ? base_->Mapped(recipe.base_index) : std::span<const std::byte>();
  }

  void Forget(std::size_t index) const override {
    const Recipe& recipe = recipes_[index];
    if (recipe.saved != nullptr) {
      ForgetPages(recipe.saved->data);
    } else {
      base_->Forget(recipe.base_index);
    }
    for (const Step& step : recipe.steps) {
      ForgetPages(step.pair->a.data);
      ForgetPages(step.pair->b.data);
    }
  }

  [[nodiscard]] std::string Origin(std::size_t index) const override {
    const Recipe& recipe = recipes_[index];
    std::string origin =
        recipe.saved != nullptr
            ? absl::StrFormat("%s: tensor %s", recipe.saved->file->string(), recipe.saved->name)
            : base_->Origin(recipe.base_index);
    for (const Step& step : recipe.steps) {
      origin += absl::StrFormat(", %s: tensor %s", step.pair->a.file->string(), step.pair->a.name);
    }
    return origin;
  }

 private:
  // The factors that ReadRows unpacked, and how many of its rows are done.
  struct Progress {
    std::int64_t done = 0;
    std::span<const Factors> factors;
  };

  [[nodiscard]] Recipe RecipeFor(const std::string& name) const {
    Recipe recipe;
    for (const PeftAdapter& adapter : adapters_) {
      if (const auto saved = adapter.saved.find(name); saved != adapter.saved.end()) {
        recipe.saved = &saved->second;
        recipe.steps.clear();
      }
      if (const auto pair = adapter.pairs.find(name); pair != adapter.pairs.end()) {
        recipe.steps.push_back({.adapter = &adapter, .pair = &pair->second});
      }
    }
    if (recipe.saved == nullptr) {
      const std::vector<TensorSpec>& tensors = base_->tensors();
      const auto found = std::find_if(tensors.begin(), tensors.end(),
                                      [&](const TensorSpec& spec) { return spec.name == name; });
      recipe.base_index = static_cast<std::size_t>(found - tensors.begin());
    }
    return recipe;
  }

  // The rows that the recipe begins with, as floats.
  absl::Status ReadFirst(const Recipe& recipe, Rows rows, std::span<float> values) const {
    const auto row_values = values.size() / static_cast<std::size_t>(rows.count);
    if (recipe.saved != nullptr) {
      for (std::int64_t i = 0; i < rows.count; ++i) {
        ReadRow(*recipe.saved, rows.first + i,
                values.subspan(static_cast<std::size_t>(i) * row_values, row_values));
      }
      return absl::OkStatus();
    }
    const TensorSpec& spec = base_->tensors()[recipe.base_index];
    const auto row_bytes = static_cast<std::size_t>(spec.row_bytes());
    std::vector<std::byte> stored(static_cast<std::size_t>(rows.count) * row_bytes);
    YANGTUO_RETURN_IF_ERROR(base_->ReadRows(recipe.base_index, rows.first, rows.count, stored));
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows.count); ++i) {
      WidenRow(spec.dtype, std::span(stored).subspan(i * row_bytes, row_bytes),
               values.subspan(i * row_values, row_values));
    }
    return absl::OkStatus();
  }

  absl::Status MergeRows(std::size_t index, Rows rows, const Progress& progress,
                         std::span<std::byte> to) const {
    const Recipe& recipe = recipes_[index];
    const std::int64_t cols = specs_[index].cols();
    std::vector<float> values(static_cast<std::size_t>(rows.count * cols));
    YANGTUO_RETURN_IF_ERROR(ReadFirst(recipe, rows, values));
    std::size_t misfit = values.size();
    if (recipe.steps.empty()) {
      misfit = RoundValues(rounding_, values);
    }
    std::vector<double> sums(recipe.steps.empty() ? 0 : values.size());
    for (std::size_t s = 0; s < recipe.steps.size() && misfit == values.size(); ++s) {
      const auto rank = static_cast<std::size_t>(recipe.steps[s].adapter->config.rank);
      SumProducts(std::span(progress.factors[s].left)
                      .subspan(static_cast<std::size_t>(progress.done) * rank,
                               static_cast<std::size_t>(rows.count) * rank),
                  progress.factors[s].right, sums);
      misfit = AddRounded(rounding_, recipe.steps[s].adapter->config.scale, sums, values);
    }
    if (misfit < values.size()) {
      const auto place = static_cast<std::int64_t>(misfit);
      return absl::DataLossError(absl::StrFormat(
          "tensor %s, row %d, column %d: expected a finite number in %s, found none (from %s)",
          specs_[index].name, rows.first + place / cols, place % cols, NameOf(rounding_),
          Origin(index)));
    }
    const auto row_values = static_cast<std::size_t>(cols);
    const auto row_bytes = static_cast<std::size_t>(specs_[index].row_bytes());
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows.count); ++i) {
      YANGTUO_RETURN_IF_ERROR(NarrowRow(rounding_,
                                        std::span(values).subspan(i * row_values, row_values), {},
                                        to.subspan(i * row_bytes, row_bytes)));
    }
    return absl::OkStatus();
  }

  std::shared_ptr<const TensorSource> base_;
  const std::vector<PeftAdapter> adapters_;  // recipes point into it
  DType rounding_;
  std::vector<TensorSpec> specs_;
  std::vector<Recipe> recipes_;
};

}  // namespace

std::shared_ptr<const TensorSource> MakeMergedSource(const Checkpoint& base,
                                                     const LlamaConfig& config,
                                                     std::vector<PeftAdapter> adapters,
                                                     DType rounding) {
  return std::make_shared<MergedSource>(base, config, std::move(adapters), rounding);
}

}  // namespace yangtuo
