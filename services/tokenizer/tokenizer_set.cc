#include "services/tokenizer/tokenizer_set.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "services/common/status.h"

namespace yangtuo {

absl::StatusOr<TokenizerSource> ParseTokenizerSource(std::string_view flag) {
  TokenizerSource source;
  if (const std::size_t equals = flag.find('='); equals != std::string_view::npos) {
    source.name = flag.substr(0, equals);
    source.path = flag.substr(equals + 1);
  } else {
    source.path = flag;
    std::filesystem::path path = std::filesystem::absolute(source.path).lexically_normal();
    // "models/poem/" and "models/poem/tokenizer.model" both mean "poem".
    if (!path.has_filename() || path.extension() == ".model") {
      path = path.parent_path();
    }
    source.name = path.filename().string();
  }
  if (source.name.empty() || source.path.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--model \"%s\": expected NAME=PATH, or the PATH of a folder with tokenizer.model", flag));
  }
  return source;
}

absl::StatusOr<TokenizerSet> TokenizerSet::Load(const std::vector<TokenizerSource>& sources) {
  TokenizerSet set;
  for (const TokenizerSource& source : sources) {
    auto tokenizer =
        Tokenizer::Load(source.path, {.chat_template = source.chat_template, .shim = {}});
    if (!tokenizer.ok()) {
      return absl::Status(tokenizer.status().code(),
                          absl::StrFormat("model \"%s\": %s", source.name,
                                          std::string(tokenizer.status().message())));
    }
    const Tokenizer* loaded = tokenizer->get();
    if (!set.by_name_.emplace(source.name, *std::move(tokenizer)).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--model: the name \"%s\" is given twice", source.name));
    }
    // Two models may share a tokenizer file; the first one answers for the digest.
    set.by_digest_.emplace(loaded->vocabulary().digest(), loaded);
  }
  return set;
}

absl::StatusOr<const Tokenizer*> TokenizerSet::Find(const std::string& key) const {
  if (key.empty() && by_name_.size() == 1) {
    return by_name_.begin()->second.get();
  }
  if (const auto named = by_name_.find(key); named != by_name_.end()) {
    return named->second.get();
  }
  if (const auto found = by_digest_.find(key); found != by_digest_.end()) {
    return found->second;
  }
  const std::string names = absl::StrJoin(
      by_name_, ", ", [](std::string* out, const auto& entry) { out->append(entry.first); });
  return WithReason(
      absl::NotFoundError(
          key.empty() ? absl::StrFormat("name one of several tokenizers: %s", names)
                      : absl::StrFormat("there is no tokenizer \"%s\"; there are: %s", key, names)),
      "UNKNOWN_TOKENIZER");
}

}  // namespace yangtuo
