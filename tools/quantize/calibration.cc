#include "tools/quantize/calibration.h"

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/model/product_observer.h"

namespace yangtuo {
namespace {

// Sums of the squares of each product's inputs, by column.
class InputSquares final : public ProductObserver {
 public:
  void Observe(Product product, std::int32_t layer, ConstMatrix x) override {
    Sums& sums = sums_[{product, product == Product::kLogits ? 0 : layer}];
    sums.squares.resize(static_cast<std::size_t>(x.dim(1)));
    sums.rows += x.dim(0);
    for (std::int64_t r = 0; r < x.dim(0); ++r) {
      const std::span<const float> row = x.Row(r);
      for (std::size_t i = 0; i < row.size(); ++i) {
        sums.squares[i] += double{row[i]} * double{row[i]};
      }
    }
  }

  [[nodiscard]] std::map<std::string, std::vector<float>> Means(bool tied) const {
    std::map<std::string, std::vector<float>> means;
    for (const auto& [place, sums] : sums_) {
      std::vector<float> mean;
      mean.reserve(sums.squares.size());
      for (const double square : sums.squares) {
        mean.push_back(static_cast<float>(square / static_cast<double>(sums.rows)));
      }
      for (const std::string& name : TensorsOf(place.first, place.second, tied)) {
        means[name] = mean;
      }
    }
    return means;
  }

 private:
  struct Sums {
    std::vector<double> squares;  // [in]
    std::int64_t rows = 0;
  };

  static std::vector<std::string> TensorsOf(Product product, std::int32_t layer, bool tied) {
    const auto named = [layer](const char* part) {
      return absl::StrFormat("model.layers.%d.%s.weight", layer, part);
    };
    switch (product) {
      case Product::kQkv:
        return {named("self_attn.q_proj"), named("self_attn.k_proj"), named("self_attn.v_proj")};
      case Product::kAttentionOut:
        return {named("self_attn.o_proj")};
      case Product::kGateUp:
        return {named("mlp.gate_proj"), named("mlp.up_proj")};
      case Product::kDown:
        return {named("mlp.down_proj")};
      case Product::kLogits:
        return {tied ? "model.embed_tokens.weight" : "lm_head.weight"};
    }
    return {};
  }

  std::map<std::pair<Product, std::int32_t>, Sums> sums_;
};

}  // namespace

absl::StatusOr<Calibration> Calibrate(const CalibrationOptions& options,
                                      const TextProgress& on_progress) {
  YANGTUO_ASSIGN_OR_RETURN(const Checkpoint model, OpenCheckpoint(options.model));
  InputSquares squares;
  PerplexityOptions run;
  run.stage.model = options.model;
  run.stage.threads = options.threads;
  run.stage.observer = &squares;
  run.text = options.text;
  run.documents = 0;
  YANGTUO_ASSIGN_OR_RETURN(const Perplexity found, MeasurePerplexity(run, on_progress));
  return Calibration{.importance = Importance(squares.Means(model.config.tied_embeddings)),
                     .tokens = found.tokens,
                     .perplexity = found.value()};
}

}  // namespace yangtuo
