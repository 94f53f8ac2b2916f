#include "services/common/log.h"

#include <chrono>
#include <cmath>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "inference_core/base/mutex.h"
#include "services/common/utf8.h"
#include "spdlog/logger.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace yangtuo {
namespace {

// What ConfigureLog set. The one piece of process-wide state: a log line must be possible wherever
// something happens, and standard error is process-wide too.
struct LogState {
  Mutex mutex;
  std::string program ABSL_GUARDED_BY(mutex) = "yangtuo";
  LogLevel level ABSL_GUARDED_BY(mutex) = LogLevel::kInfo;
  LogFormat format ABSL_GUARDED_BY(mutex) = LogFormat::kText;
  // Writes whole lines, one at a time.
  spdlog::logger sink{"", std::make_shared<spdlog::sinks::stderr_sink_mt>()};

  LogState() {
    sink.set_pattern("%v");
    sink.set_level(spdlog::level::trace);
  }
};

LogState& State() {
  // Never destroyed: threads may still log while the process leaves main.
  static LogState& state = *new LogState;
  return state;
}

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "unknown";
}

// A JSON string literal; also how text lines quote.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = Utf8CharacterLength(text);
    const char c = text[0];
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (length == 1 && (c < 0x20 || c == 0x7F)) {
      out += absl::StrFormat("\\u%04x", static_cast<unsigned>(c));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out + '"';
}

// Bare words need no quotes in a text line.
bool NeedsQuotes(std::string_view text) {
  if (text.empty()) {
    return true;
  }
  for (const char c : text) {
    if (c <= 0x20 || c >= 0x7F || c == '"' || c == '=' || c == '\\') {
      return true;
    }
  }
  return false;
}

struct ValuePrinter {
  LogFormat format;

  std::string operator()(const std::string& value) const {
    return format == LogFormat::kText && !NeedsQuotes(value) ? value : Quoted(value);
  }
  std::string operator()(std::int64_t value) const { return absl::StrFormat("%d", value); }
  std::string operator()(double value) const {
    // JSON has no word for infinities and NaN.
    const std::string number = absl::StrFormat("%.9g", value);
    return format == LogFormat::kJson && !std::isfinite(value) ? Quoted(number) : number;
  }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
};

std::string UtcNow() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
}

std::string JsonLine(LogLevel level, std::string_view program, std::string_view event,
                     std::initializer_list<LogField> fields) {
  std::string line = absl::StrFormat(R"({"time":"%s","level":"%s","program":%s,"event":%s)",
                                     UtcNow(), LevelName(level), Quoted(program), Quoted(event));
  for (const LogField& field : fields) {
    line += absl::StrFormat(",%s:%s", Quoted(field.key),
                            std::visit(ValuePrinter{LogFormat::kJson}, field.value));
  }
  return line + '}';
}

std::string TextLine(LogLevel level, std::string_view program, std::string_view event,
                     std::initializer_list<LogField> fields) {
  std::string line = absl::StrFormat("%s %-7s %s: %s", UtcNow(), LevelName(level), program, event);
  for (const LogField& field : fields) {
    line += absl::StrFormat(" %s=%s", field.key,
                            std::visit(ValuePrinter{LogFormat::kText}, field.value));
  }
  return line;
}

}  // namespace

void ConfigureLog(std::string_view program, LogLevel level, LogFormat format) {
  LogState& state = State();
  const MutexLock lock(state.mutex);
  state.program = std::string(program);
  state.level = level;
  state.format = format;
}

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  LogState& state = State();
  std::string program;
  LogFormat format = LogFormat::kText;
  {
    const MutexLock lock(state.mutex);
    if (level < state.level) {
      return;
    }
    program = state.program;
    format = state.format;
  }
  const std::string line = format == LogFormat::kJson ? JsonLine(level, program, event, fields)
                                                      : TextLine(level, program, event, fields);
  state.sink.log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace yangtuo
