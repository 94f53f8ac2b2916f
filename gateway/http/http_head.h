#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "boost/beast/http/message.hpp"
#include "gateway/http/http_message.h"

// The parts of a request's and an answer's head, as pure functions.
namespace yangtuo::gateway {

// A request without its body. INVALID_ARGUMENT for a target that is not a path, or is wrongly
// percent-encoded, and for HTTP/1.1 without a host; UNIMPLEMENTED for a transfer encoding other
// than "chunked", whose end this server would not find (RFC 9112, 6.3).
absl::StatusOr<HttpRequest> ToHttpRequest(const boost::beast::http::request_header<>& head);

enum class BodyLength { kKnown, kChunked, kUntilClose };

struct ResponseHead {
  const HttpResponse& response;
  BodyLength length = BodyLength::kKnown;
  bool keep_alive = true;
  std::string_view request_id{};
  std::string_view allowed_origin{};  // empty: no CORS headers
  bool varies_by_origin = false;
};
// The bytes of the head, the blank line included.
std::string WriteHead(const ResponseHead& head);

// The value of Access-Control-Allow-Origin for a request from `origin`, or "".
std::string AllowedOrigin(const std::vector<std::string>& allowed, const std::string& origin);
// The answer to a CORS preflight (OPTIONS with Access-Control-Request-Method).
HttpResponse PreflightAnswer(const HttpRequest& request);
[[nodiscard]] bool IsPreflight(const HttpRequest& request);

}  // namespace yangtuo::gateway
