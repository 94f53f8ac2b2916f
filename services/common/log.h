#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"

// Structured logs on standard error: one line an event, key=value text or JSON. Configured once by
// the program (ConfigureLog); thread-safe.
namespace yangtuo {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogField {
  std::string_view key;  // snake_case
  std::variant<std::string, std::int64_t, double, bool> value;
};

void ConfigureLog(std::string_view program, LogLevel level, LogFormat format);

// `event` is a short constant phrase ("worker connected"); everything variable is a field. Never
// prompt text.
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

}  // namespace yangtuo
