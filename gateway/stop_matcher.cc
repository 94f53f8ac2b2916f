#include "gateway/stop_matcher.h"

#include <algorithm>

namespace yangtuo::gateway {
namespace {

std::vector<std::size_t> Fallbacks(const std::string& string) {
  std::vector<std::size_t> fallback(string.size(), 0);
  std::size_t border = 0;
  for (std::size_t i = 1; i < string.size(); ++i) {
    while (border > 0 && string[i] != string[border]) {
      border = fallback[border - 1];
    }
    border += string[i] == string[border] ? 1U : 0U;
    fallback[i] = border;
  }
  return fallback;
}

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stop_strings) {
  for (const std::string& string : stop_strings) {
    if (!string.empty()) {
      patterns_.push_back({.string = string, .fallback = Fallbacks(string)});
    }
  }
}

void StopMatcher::Step(Pattern& pattern, char byte) {
  while (pattern.matched > 0 && pattern.string[pattern.matched] != byte) {
    pattern.matched = pattern.fallback[pattern.matched - 1];
  }
  pattern.matched += pattern.string[pattern.matched] == byte ? 1U : 0U;
}

bool StopMatcher::Push(std::string_view text, std::string& released) {
  if (found_.has_value()) {
    return true;
  }
  if (patterns_.empty()) {
    released.append(text);
    return false;
  }
  std::size_t hold = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const Pattern* complete = nullptr;
    hold = 0;
    for (Pattern& pattern : patterns_) {
      Step(pattern, text[i]);
      hold = std::max(hold, pattern.matched);
      if (pattern.matched == pattern.string.size() &&
          (complete == nullptr || pattern.string.size() > complete->string.size())) {
        complete = &pattern;
      }
    }
    if (complete != nullptr) {
      held_.append(text.substr(0, i + 1));
      released.append(held_, 0, held_.size() - complete->string.size());
      held_.clear();
      found_ = complete->string;
      return true;
    }
  }
  if (!text.empty()) {
    held_.append(text);
    released.append(held_, 0, held_.size() - hold);
    held_.erase(0, held_.size() - hold);
  }
  return false;
}

void StopMatcher::Finish(std::string& released) {
  if (!found_.has_value()) {
    released.append(held_);
  }
  held_.clear();
}

}  // namespace yangtuo::gateway
