#include "services/common/otlp_json.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/common/build_info.h"

namespace yangtuo {
namespace {

using Json = nlohmann::json;

constexpr char kTracesPath[] = "/v1/traces";
constexpr int kStatusError = 2;
constexpr std::uint32_t kSampledFlag = 1;

struct ToJson {
  Json operator()(const std::string& value) const { return {{"stringValue", value}}; }
  Json operator()(bool value) const { return {{"boolValue", value}}; }
  Json operator()(std::int64_t value) const { return {{"intValue", absl::StrCat(value)}}; }
  Json operator()(double value) const { return {{"doubleValue", value}}; }
  Json operator()(const std::vector<std::string>& values) const {
    Json list = Json::array();
    for (const std::string& value : values) {
      list.push_back({{"stringValue", value}});
    }
    return {{"arrayValue", {{"values", std::move(list)}}}};
  }
};

Json AttributesJson(const Attributes& attributes) {
  Json list = Json::array();
  for (const auto& [key, value] : attributes) {
    list.push_back({{"key", key}, {"value", std::visit(ToJson(), value)}});
  }
  return list;
}

Json SpanJson(const SpanData& span) {
  Json json = {{"traceId", ToHex(span.context.trace_id)},
               {"spanId", ToHex(span.context.span_id)},
               {"name", span.name},
               {"kind", static_cast<int>(span.kind)},
               {"startTimeUnixNano", absl::StrCat(span.start_unix_ns)},
               {"endTimeUnixNano", absl::StrCat(span.end_unix_ns)},
               {"flags", kSampledFlag},
               {"attributes", AttributesJson(span.attributes)}};
  if (span.parent.has_value()) {
    json["parentSpanId"] = ToHex(*span.parent);
  }
  if (!span.tracestate.empty()) {
    json["traceState"] = span.tracestate;
  }
  json["status"] = span.failed ? Json{{"code", kStatusError}} : Json::object();
  return json;
}

absl::Status BadUrl(std::string_view url) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "\"%s\" is no address of an OTLP/HTTP collector; expected http://host:4318 or https://host, "
      "as in http://127.0.0.1:4318",
      std::string(url)));
}

// True when `text` began with `prefix`, which it has lost then.
bool Consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) {
    return false;
  }
  text.remove_prefix(prefix.size());
  return true;
}

std::string_view Trimmed(std::string_view text) {
  constexpr char kBlanks[] = " \t";
  const std::size_t first = std::min(text.find_first_not_of(kBlanks), text.size());
  text.remove_prefix(first);
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

int HexDigit(char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const std::size_t at =
      kDigits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

// Nullopt when a percent sign is not followed by two digits.
std::optional<std::string> PercentDecoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size() || HexDigit(text[i + 1]) < 0 || HexDigit(text[i + 2]) < 0) {
      return std::nullopt;
    }
    decoded += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
    i += 2;
  }
  return decoded;
}

// Splits "host", "host:port", "[v6]" and "[v6]:port".
bool ParseAuthority(std::string_view text, OtlpEndpoint& endpoint) {
  std::size_t end = 0;
  if (Consume(text, "[")) {
    end = text.find(']');
    if (end == std::string_view::npos) {
      return false;
    }
    endpoint.host = std::string(text.substr(0, end));
    text.remove_prefix(end + 1);
  } else {
    end = std::min(text.find(':'), text.size());
    endpoint.host = std::string(text.substr(0, end));
    text.remove_prefix(end);
  }
  std::uint32_t port = endpoint.tls ? 443 : 80;  // as in every URL
  if (!text.empty()) {
    const bool digits = Consume(text, ":") && !text.empty() && text.size() <= 5 &&
                        text.find_first_not_of("0123456789") == std::string_view::npos;
    if (!digits || !absl::SimpleAtoi(std::string(text), &port) || port == 0 || port > 65535) {
      return false;
    }
  }
  endpoint.port = static_cast<std::uint16_t>(port);
  return !endpoint.host.empty();
}

bool IsUrlCharacter(char c) {
  return c > 0x20 && c < 0x7F && c != '@' && c != '#' && c != '?' && c != '"';
}

}  // namespace

std::string ToOtlpJson(const Attributes& resource, const std::vector<SpanData>& spans) {
  Json list = Json::array();
  for (const SpanData& span : spans) {
    list.push_back(SpanJson(span));
  }
  const Json scope = {{"name", "yangtuo"}, {"version", std::string(ThisBuild().version)}};
  Json scope_spans = Json::array();
  scope_spans.push_back({{"scope", scope}, {"spans", std::move(list)}});
  Json resource_spans = Json::array();
  resource_spans.push_back({{"resource", {{"attributes", AttributesJson(resource)}}},
                            {"scopeSpans", std::move(scope_spans)}});
  const Json request = {{"resourceSpans", std::move(resource_spans)}};
  return request.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::int64_t RejectedSpans(std::string_view response) {
  const Json json = Json::parse(response, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("partialSuccess") ||
      !json["partialSuccess"].is_object() || !json["partialSuccess"].contains("rejectedSpans")) {
    return 0;
  }
  const Json& rejected = json["partialSuccess"]["rejectedSpans"];
  std::int64_t number = 0;
  if (rejected.is_number_integer()) {
    number = rejected.get<std::int64_t>();
  } else if (!rejected.is_string() || !absl::SimpleAtoi(rejected.get<std::string>(), &number)) {
    return 0;
  }
  return std::max<std::int64_t>(number, 0);
}

absl::StatusOr<OtlpEndpoint> ParseOtlpEndpoint(std::string_view url) {
  OtlpEndpoint endpoint;
  std::string_view rest = url;
  if (Consume(rest, "https://")) {
    endpoint.tls = true;
  } else if (!Consume(rest, "http://")) {
    return BadUrl(url);
  }
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view path = rest.substr(slash);
  if (!std::all_of(rest.begin(), rest.end(), IsUrlCharacter) ||
      !ParseAuthority(rest.substr(0, slash), endpoint)) {
    return BadUrl(url);
  }
  while (path.ends_with('/')) {
    path.remove_suffix(1);
  }
  endpoint.path = std::string(path);
  if (!path.ends_with(kTracesPath)) {
    endpoint.path += kTracesPath;
  }
  return endpoint;
}

absl::StatusOr<Attributes> ParseResourceAttributes(std::string_view text) {
  Attributes attributes;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view entry = Trimmed(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (entry.empty()) {
      continue;
    }
    const std::size_t equals = std::min(entry.find('='), entry.size());
    const std::string_view key = Trimmed(entry.substr(0, equals));
    const auto value =
        equals == entry.size() ? std::nullopt : PercentDecoded(Trimmed(entry.substr(equals + 1)));
    if (key.empty() || !value.has_value()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "resource attribute \"%s\": expected key=value with percent-encoded values, several with "
          "commas",
          std::string(entry)));
    }
    attributes.emplace_back(std::string(key), *value);
  }
  return attributes;
}

}  // namespace yangtuo
