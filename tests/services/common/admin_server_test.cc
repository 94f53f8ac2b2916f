#include "services/common/admin_server.h"

#include <arpa/inet.h>
#include <chrono>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A client that sends exactly the bytes it is told to.
class RawClient {
 public:
  explicit RawClient(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    // A broken test must not hang.
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void Send(const std::string& bytes) {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void EndOfInput() { shutdown(fd_, SHUT_WR); }

  // Everything until the server closes the connection.
  std::string ReadAll() { return ReadUntil(""); }
  std::string ReadUntil(const std::string& end) {
    std::string bytes;
    char buffer[4096];
    while (end.empty() || bytes.find(end) == std::string::npos) {
      const ssize_t count = recv(fd_, buffer, sizeof(buffer), 0);
      if (count <= 0) {
        timed_out_ = count < 0 && errno != ECONNRESET;
        break;
      }
      bytes.append(buffer, static_cast<std::size_t>(count));
    }
    return bytes;
  }
  [[nodiscard]] bool timed_out() const { return timed_out_; }

 private:
  const int fd_;
  bool timed_out_ = false;
};

class AdminServerTest : public ::testing::Test {
 protected:
  void StartServer(const AdminServer::Limits& limits = {},
                   const std::string& listen = "127.0.0.1:0") {
    auto server = AdminServer::Start(
        listen, {.metrics = [] { return "m 1\n"; }, .not_ready = [this] { return not_ready_; }},
        limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // The answer to one request on a connection of its own.
  std::string Answer(const std::string& bytes) {
    RawClient client(server_->port());
    client.Send(bytes);
    client.EndOfInput();
    return client.ReadAll();
  }
  std::string Get(const std::string& path) {
    return Answer("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }

  std::vector<std::string> not_ready_;
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, ServesMetricsInPrometheusContentType) {
  StartServer();

  EXPECT_THAT(Get("/metrics?x=1"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"),
                    HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
                    EndsWith("\r\n\r\nm 1\n")));
}

TEST_F(AdminServerTest, IsAliveEvenWhenItIsNotReady) {
  not_ready_ = {"model"};
  StartServer();

  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(AdminServerTest, NamesWhatIsNotReady) {
  not_ready_ = {"yangtuo.v1.GenerationService", "draining"};
  StartServer();

  EXPECT_THAT(Get("/readyz"), AllOf(StartsWith("HTTP/1.1 503 "),
                                    EndsWith("\r\n\r\nnot ready: yangtuo.v1.GenerationService\n"
                                             "not ready: draining\n")));
}

TEST_F(AdminServerTest, IsReadyWhenNothingIsMissing) {
  StartServer();

  EXPECT_THAT(Get("/readyz"), AllOf(StartsWith("HTTP/1.1 200 "), EndsWith("ready\n")));
}

TEST_F(AdminServerTest, AnswersHeadWithTheLengthAndWithoutTheBody) {
  StartServer();

  EXPECT_THAT(Answer("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              AllOf(HasSubstr("Content-Length: 4\r\n"), EndsWith("\r\n\r\n")));
}

TEST_F(AdminServerTest, RefusesOtherPathsAndMethods) {
  StartServer();

  EXPECT_THAT(Get("/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Get("/metrics/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Answer("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n")));
}

TEST_F(AdminServerTest, KeepsAConnectionForFurtherRequests) {
  StartServer();
  RawClient client(server_->port());
  const std::string request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

  client.Send(request);
  EXPECT_THAT(client.ReadUntil("alive\n"), HasSubstr("200 OK"));
  client.Send(request + request);
  EXPECT_THAT(client.ReadUntil("alive\n"), HasSubstr("200 OK"));
  client.EndOfInput();
  client.ReadAll();
  EXPECT_FALSE(client.timed_out());
}

TEST_F(AdminServerTest, RefusesMalformedRequestsAndGoesOn) {
  StartServer();

  EXPECT_THAT(Answer("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Answer(std::string("\0\x01\x02\xFF\r\n\r\n", 8)), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Answer("GET /livez HTTP/9.9\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Answer("GET /livez HTTP/1.1\r\nno colon\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Answer("GET /livez HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"),
              StartsWith("HTTP/1.1 413 "));
  EXPECT_EQ(Answer("GET /livez HT"), "");
  EXPECT_EQ(Answer(""), "");
  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(AdminServerTest, RefusesHeadersBeyondTheLimit) {
  StartServer();

  EXPECT_THAT(Answer("GET /livez HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
}

TEST_F(AdminServerTest, ClosesAConnectionThatSaysNothing) {
  StartServer({.idle = std::chrono::milliseconds(50)});
  RawClient silent(server_->port());
  RawClient slow(server_->port());
  slow.Send("GET /livez");

  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_FALSE(silent.timed_out());
  EXPECT_EQ(slow.ReadAll(), "");
  EXPECT_FALSE(slow.timed_out());
}

TEST_F(AdminServerTest, ServesAgainWhenIdleConnectionsTookAllPlaces) {
  StartServer({.connections = 2, .idle = std::chrono::milliseconds(300)});
  const RawClient one(server_->port());
  const RawClient two(server_->port());

  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(AdminServerTest, StopsAtOnceWhileConnectionsAreOpen) {
  StartServer({.idle = std::chrono::hours(1)});
  RawClient client(server_->port());
  client.Send("GET /livez HTTP/1.1\r\n\r\n");
  client.ReadUntil("alive\n");

  server_.reset();

  EXPECT_EQ(client.ReadAll(), "");
  EXPECT_FALSE(client.timed_out());
}

TEST_F(AdminServerTest, AnswersWith500WhenASourceThrows) {
  auto server = AdminServer::Start(
      "127.0.0.1:0",
      {.metrics = []() -> std::string { throw std::runtime_error("broken gauge"); },
       .not_ready = [] { return std::vector<std::string>(); }},
      {});
  ASSERT_TRUE(server.ok());
  server_ = *std::move(server);

  EXPECT_THAT(Get("/metrics"), AllOf(StartsWith("HTTP/1.1 500 "), Not(HasSubstr("broken gauge"))));
}

TEST_F(AdminServerTest, ListensOnIpv4AndIpv6ThroughOneAddress) {
  const int probe = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool has_ipv6 = probe >= 0 && bind(probe, reinterpret_cast<const sockaddr*>(&loopback),
                                           sizeof(loopback)) == 0;
  close(probe);
  if (!has_ipv6) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  StartServer({}, "[::]:0");

  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 "));  // over IPv4
  const int six = socket(AF_INET6, SOCK_STREAM, 0);
  loopback.sin6_port = htons(static_cast<std::uint16_t>(server_->port()));
  EXPECT_EQ(connect(six, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback)), 0);
  close(six);
}

TEST(AdminServerStartTest, RefusesAddressesThatCannotWork) {
  const auto start = [](const std::string& listen) {
    return AdminServer::Start(listen, {}, {}).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(start("9400")));
  EXPECT_TRUE(absl::IsInvalidArgument(start("no.such.host.invalid:0")));
  EXPECT_TRUE(absl::IsInvalidArgument(start("192.0.2.1:0")));
}

}  // namespace
}  // namespace yangtuo
