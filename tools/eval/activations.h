#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/model/product_observer.h"
#include "tools/eval/perplexity.h"

namespace yangtuo {

// What rounding a product's inputs to int8 does to them. Errors are root mean squares relative to
// the inputs' own.
struct RoundingErrors {
  std::int64_t rows = 0;
  double largest = 0.0;    // largest input of a row to the row's root mean square; of all rows
  double by_rows = 0.0;    // one scale a row: weight types int8 and int4
  double by_groups = 0.0;  // one scale for each 32: weight type gguf
};

// Rounds what it sees in both ways and adds up what is lost. Inputs that are no numbers count as
// zeros.
class RoundingCensus final : public ProductObserver {
 public:
  void Observe(Product product, std::int32_t layer, ConstMatrix x) override;

  // By product and layer; of kLogits the layer is 0.
  [[nodiscard]] std::map<std::pair<Product, std::int32_t>, RoundingErrors> Errors() const;

 private:
  struct Sums {
    std::int64_t rows = 0;
    double largest = 0.0;
    double squares = 0.0;
    double row_errors = 0.0;
    double group_errors = 0.0;
  };
  std::map<std::pair<Product, std::int32_t>, Sums> sums_;
};

struct ActivationReport {
  std::map<std::pair<Product, std::int32_t>, RoundingErrors> errors;
  Perplexity perplexity;  // of the text meanwhile
};

// Runs a model over a text, as MeasurePerplexity does, and looks at the inputs of all its products.
absl::StatusOr<ActivationReport> MeasureActivations(PerplexityOptions options,
                                                    const TextProgress& on_progress);

}  // namespace yangtuo
