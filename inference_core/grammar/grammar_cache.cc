#include "inference_core/grammar/grammar_cache.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

// Every part with its length, so that no two specs have the same.
std::string KeyOf(const GrammarSpec& spec) {
  std::string key = absl::StrFormat("%d:%d:", static_cast<int>(spec.kind), spec.text.size());
  key += spec.text;
  for (const std::string& choice : spec.choices) {
    key += absl::StrFormat("%d:", choice.size());
    key += choice;
  }
  return key;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Grammar>> GrammarCache::Get(const GrammarSpec& spec) {
  std::string key = KeyOf(spec);
  {
    const MutexLock lock(mutex_);
    if (const std::shared_ptr<const Grammar>* found = grammars_.Find(key); found != nullptr) {
      return *found;
    }
  }
  YANGTUO_ASSIGN_OR_RETURN(std::shared_ptr<const Grammar> grammar, CompileGrammar(spec));
  const MutexLock lock(mutex_);
  if (const std::shared_ptr<const Grammar>* found = grammars_.Find(key); found != nullptr) {
    return *found;  // another thread was faster: share its masks
  }
  bytes_ += grammar->memory_bytes();
  grammars_.Insert(std::move(key), grammar);
  while (grammars_.size() > 1 && (grammars_.size() > limits_.grammars || bytes_ > limits_.bytes)) {
    bytes_ -= grammars_.RemoveOldest()->memory_bytes();
  }
  return grammar;
}

bool GrammarCache::Has(const GrammarSpec& spec) {
  const std::string key = KeyOf(spec);
  const MutexLock lock(mutex_);
  return grammars_.Find(key) != nullptr;
}

std::size_t GrammarCache::size() const {
  const MutexLock lock(mutex_);
  return grammars_.size();
}

}  // namespace yangtuo
