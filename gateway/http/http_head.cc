#include "gateway/http/http_head.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/write.hpp"
#include "services/common/request_context.h"

namespace yangtuo::gateway {
namespace {

namespace http = boost::beast::http;

// What a page of another origin may read.
constexpr char kExposedHeaders[] =
    "X-Request-Id, Retry-After, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    "x-ratelimit-reset-tokens";

std::optional<int> HexDigit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? std::optional<int>(lower - 'a' + 10) : std::nullopt;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const auto high = i + 2 < text.size() ? HexDigit(text[i + 1]) : std::nullopt;
    const auto low = high.has_value() ? HexDigit(text[i + 2]) : std::nullopt;
    if (!low.has_value()) {
      return std::nullopt;
    }
    decoded += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return decoded;
}

// A target may name the server too, as proxies write it (RFC 9112, 3.2.2).
std::string_view PathOf(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (target.substr(0, scheme.size()) == scheme) {
      const std::size_t slash = target.find('/', scheme.size());
      return slash == std::string_view::npos ? "/" : target.substr(slash);
    }
  }
  return target;
}

}  // namespace

absl::StatusOr<HttpRequest> ToHttpRequest(const http::request_header<>& head) {
  if (const auto encoding = head.find(http::field::transfer_encoding);
      encoding != head.end() && !boost::beast::iequals(encoding->value(), "chunked")) {
    return absl::UnimplementedError(
        "the only Transfer-Encoding that this server knows is \"chunked\"");
  }
  if (head.version() >= 11 && head.find(http::field::host) == head.end()) {
    return absl::InvalidArgumentError("a request of HTTP/1.1 must have a Host header");
  }
  HttpRequest plain;
  plain.method = std::string(head.method_string());
  const std::string_view target = PathOf({head.target().data(), head.target().size()});
  const std::size_t question = target.find('?');
  auto path = PercentDecode(target.substr(0, question));
  if (!path.has_value() || path->empty() || path->front() != '/') {
    return absl::InvalidArgumentError(
        "the request's target must be a path that starts with \"/\", with \"%\" only before two "
        "hexadecimal digits");
  }
  plain.path = *std::move(path);
  if (question != std::string_view::npos) {
    plain.query = std::string(target.substr(question + 1));
  }
  for (const auto& field : head) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    plain.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  plain.request_id = plain.Header("x-request-id");
  if (!CheckRequestId(plain.request_id).ok()) {
    plain.request_id = NewRequestId();
  }
  return plain;
}

std::string WriteHead(const ResponseHead& head) {
  http::response<http::empty_body> message(static_cast<http::status>(head.response.status), 11);
  message.set(http::field::server, "yangtuo");
  if (!head.response.content_type.empty()) {
    message.set(http::field::content_type, head.response.content_type);
  }
  if (!head.request_id.empty()) {
    message.set("X-Request-Id",
                boost::beast::string_view(head.request_id.data(), head.request_id.size()));
  }
  if (!head.allowed_origin.empty()) {
    message.set(http::field::access_control_allow_origin,
                boost::beast::string_view(head.allowed_origin.data(), head.allowed_origin.size()));
    message.set(http::field::access_control_expose_headers, kExposedHeaders);
  }
  if (head.varies_by_origin) {
    message.set(http::field::vary, "Origin");
  }
  for (const auto& [name, value] : head.response.headers) {
    message.set(name, value);
  }
  switch (head.length) {
    case BodyLength::kKnown:
      if (head.response.status != 204) {  // which has none (RFC 9110, 8.6)
        message.content_length(head.response.body.size());
      }
      break;
    case BodyLength::kChunked:
      message.chunked(true);
      break;
    case BodyLength::kUntilClose:
      break;
  }
  message.keep_alive(head.keep_alive);
  std::ostringstream bytes;
  bytes << message.base();
  return bytes.str();
}

std::string AllowedOrigin(const std::vector<std::string>& allowed, const std::string& origin) {
  if (origin.empty()) {
    return "";
  }
  for (const std::string& one : allowed) {
    if (one == "*" || one == origin) {
      return one;
    }
  }
  return "";
}

bool IsPreflight(const HttpRequest& request) {
  return request.method == "OPTIONS" && !request.Header("access-control-request-method").empty();
}

HttpResponse PreflightAnswer(const HttpRequest& request) {
  const std::string& wanted = request.Header("access-control-request-headers");
  return {.status = 204,
          .content_type = "",
          .headers = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                      {"Access-Control-Allow-Headers",
                       wanted.empty() ? "Authorization, Content-Type" : wanted},
                      {"Access-Control-Max-Age", "600"}}};
}

}  // namespace yangtuo::gateway
