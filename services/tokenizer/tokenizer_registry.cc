#include "services/tokenizer/tokenizer_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "services/common/status.h"

namespace yangtuo {

absl::Status TokenizerRegistry::Add(std::string name, std::unique_ptr<const Tokenizer> tokenizer) {
  const bool taken =
      std::any_of(tokenizers_.begin(), tokenizers_.end(),
                  [&name](const NamedTokenizer& other) { return other.name == name; });
  if (taken) {
    return absl::InvalidArgumentError(
        absl::StrFormat("two tokenizers are named \"%s\"; name one with --model NAME=PATH", name));
  }
  tokenizers_.push_back({.name = std::move(name), .tokenizer = std::move(tokenizer)});
  return absl::OkStatus();
}

absl::StatusOr<const NamedTokenizer*> TokenizerRegistry::Find(const std::string& name) const {
  if (name.empty()) {
    if (tokenizers_.size() == 1) {
      return &tokenizers_.front();
    }
    return InvalidField("tokenizer", absl::StrFormat("name one of those that exist: %s", Names()));
  }
  for (const NamedTokenizer& named : tokenizers_) {
    if (named.name == name) {
      return &named;
    }
  }
  for (const NamedTokenizer& named : tokenizers_) {
    if (named.tokenizer->vocabulary().digest() == name) {
      return &named;
    }
  }
  return WithReason(absl::NotFoundError(absl::StrFormat(
                        "there is no tokenizer \"%s\"; there are: %s", name, Names())),
                    "TOKENIZER_NOT_FOUND", {{"tokenizer", name}});
}

std::string TokenizerRegistry::Names() const {
  std::string names;
  for (const NamedTokenizer& named : tokenizers_) {
    names.append(names.empty() ? "" : ", ").append(named.name);
  }
  return names;
}

}  // namespace yangtuo
