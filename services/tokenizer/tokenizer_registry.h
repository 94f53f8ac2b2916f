#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tokenizer/tokenizer.h"

namespace yangtuo {

struct NamedTokenizer {
  std::string name;
  std::unique_ptr<const Tokenizer> tokenizer;
};

// The tokenizers of this process. Filled before it serves, immutable and thread-safe then.
class TokenizerRegistry {
 public:
  // INVALID_ARGUMENT when the name is taken.
  absl::Status Add(std::string name, std::unique_ptr<const Tokenizer> tokenizer);

  // By name, else by digest; an empty name finds the only one. NOT_FOUND or INVALID_ARGUMENT (empty
  // although there are several) naming those that exist.
  [[nodiscard]] absl::StatusOr<const NamedTokenizer*> Find(const std::string& name) const;

  [[nodiscard]] const std::vector<NamedTokenizer>& all() const { return tokenizers_; }

 private:
  [[nodiscard]] std::string Names() const;

  std::vector<NamedTokenizer> tokenizers_;  // in the order of Add
};

}  // namespace yangtuo
