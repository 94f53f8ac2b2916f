#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "inference_core/base/mutex.h"
#include "inference_core/grammar/grammar.h"
#include "inference_core/grammar/grammar_spec.h"
#include "inference_core/grammar/lru_map.h"

namespace yangtuo {

// Compiled grammars by what they were compiled from, with the masks of every vocabulary they were
// used with; those used least recently go first. Thread-safe.
class GrammarCache {
 public:
  struct Limits {
    std::size_t grammars = 64;
    std::size_t bytes = std::size_t{128} << 20;  // of automata; the newest stays whatever its size
  };

  GrammarCache() : GrammarCache(Limits{}) {}
  explicit GrammarCache(Limits limits) : limits_(limits) {}

  // As CompileGrammar, which runs in the caller's thread, outside the lock, when there is none yet.
  absl::StatusOr<std::shared_ptr<const Grammar>> Get(const GrammarSpec& spec);

  // Whether Get would find it.
  [[nodiscard]] bool Has(const GrammarSpec& spec);

  [[nodiscard]] std::size_t size() const;

 private:
  const Limits limits_;
  mutable Mutex mutex_;
  LruMap<std::string, std::shared_ptr<const Grammar>> grammars_ ABSL_GUARDED_BY(mutex_);
  std::size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace yangtuo
