#pragma once

#include <string>
#include <utility>
#include <vector>

namespace yangtuo::gateway {

// One request as it came, headers looked up without regard to case.
struct HttpRequest {
  using Headers = std::vector<std::pair<std::string, std::string>>;

  std::string method{};  // "GET"
  std::string path{};    // percent-decoded, without the query
  std::string query{};   // as sent, without the "?"
  Headers headers{};
  std::string body{};
  // Of the request's x-request-id header when that is usable, else drawn. Goes into the answer.
  std::string request_id{};

  // The first header of this lower-case name, or "".
  [[nodiscard]] const std::string& Header(const std::string& name) const {
    static const std::string kNone;
    for (const auto& [key, value] : headers) {
      if (key == name) {
        return value;
      }
    }
    return kNone;
  }
};

// Content-Length, Connection, Server, X-Request-Id and CORS headers are the server's business.
struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
};

}  // namespace yangtuo::gateway
