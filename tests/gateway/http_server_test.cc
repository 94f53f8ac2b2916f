#include "gateway/http/http_server.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/base/mutex.h"
#include "tests/gateway/raw_client.h"

namespace yangtuo::gateway {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using yangtuo::testing::RawClient;

// Answers "METHOD path [body]"; "/hold" keeps the exchange for the test.
class EchoServer {
 public:
  explicit EchoServer(HttpOptions options = {}) {
    options.listen = "127.0.0.1:0";
    auto server = HttpServer::Start(
        options,
        {.handle = [this](HttpRequest request,
                          std::shared_ptr<HttpExchange> exchange) { Handle(request, exchange); },
         .admit = [](const HttpRequest& head) -> std::optional<HttpResponse> {
           return head.path == "/closed" ? std::optional(HttpResponse{.status = 401})
                                         : std::nullopt;
         },
         .refuse =
             [](int status, const std::string& message) {
               return HttpResponse{.status = status, .body = message};
             }});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  [[nodiscard]] HttpServer& server() { return *server_; }
  [[nodiscard]] int port() const { return server_->port(); }

  // The exchange of a request to /hold.
  std::shared_ptr<HttpExchange> Held() {
    const MutexLock lock(mutex_);
    while (held_ == nullptr) {
      changed_.Wait(mutex_);
    }
    return std::exchange(held_, nullptr);
  }

 private:
  void Handle(const HttpRequest& request, const std::shared_ptr<HttpExchange>& exchange) {
    if (request.path == "/hold") {
      const MutexLock lock(mutex_);
      held_ = exchange;
      changed_.NotifyAll();
      return;
    }
    exchange->Respond({.content_type = "text/plain",
                       .body = request.method + " " + request.path + " [" + request.body + "]"});
  }

  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<HttpExchange> held_;
  std::unique_ptr<HttpServer> server_;
};

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return condition();
}

TEST(HttpServerTest, AnswersSeveralRequestsOfOneConnection) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("GET /a []")));
  client.Send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_THAT(client.ReadAnswer(), EndsWith("POST /b [abc]"));
}

TEST(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send(
      "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: "
      "2\r\n\r\nhiGET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), EndsWith("GET /1 []"));
  EXPECT_THAT(client.ReadAnswer(), EndsWith("POST /2 [hi]"));
  EXPECT_THAT(client.ReadAnswer(), EndsWith("GET /3 []"));
}

TEST(HttpServerTest, TakesARequestByteByByte) {
  EchoServer echo;
  RawClient client(echo.port());
  for (const char c : std::string("POST /split HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                                  "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")) {
    ASSERT_TRUE(client.Send({&c, 1}));
  }
  EXPECT_THAT(client.ReadAnswer(), EndsWith("POST /split [abcde]"));
}

TEST(HttpServerTest, HeadHasNoBodyAndPercentPathsAreDecoded) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send(
      "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nGET /a%2Fb%e7%be%8a?q=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("Content-Length: 10\r\n"));
  EXPECT_THAT(client.ReadAnswer(), EndsWith("GET /a/b羊 []"));
  client.Send("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadToEnd(), StartsWith("HTTP/1.1 400"));
}

TEST(HttpServerTest, RefusesWhatIsNoRequestAndClosesTheConnection) {
  for (const auto& [bytes, status] :
       {std::pair{"\x16\x03\x01\x02\r\n\r\n", "HTTP/1.1 400"},
        std::pair{"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400"},
        std::pair{"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n0\r\n\r\n",
                  "HTTP/1.1 400"},
        std::pair{"GET /a b HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
        std::pair{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},  // no Host
        // Where such a body ends, another server may think otherwise.
        std::pair{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"
                  "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
                  "HTTP/1.1 501"},
        std::pair{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
                  "0\r\n\r\n",
                  "HTTP/1.1 501"}}) {
    EchoServer echo;
    RawClient client(echo.port());
    client.Send(bytes);
    const std::string answer = client.ReadToEnd();
    EXPECT_THAT(answer, AllOf(StartsWith(status), HasSubstr("X-Request-Id: "))) << bytes;
    EXPECT_THAT(answer, Not(HasSubstr("smuggled")));
  }
}

TEST(HttpServerTest, BoundsHeadersAndBodies) {
  HttpOptions options;
  options.limits.header_bytes = 1024;
  options.limits.body_bytes = 100;
  EchoServer echo(options);
  RawClient large_header(echo.port());
  large_header.Send("GET / HTTP/1.1\r\nX: " + std::string(5000, 'x') + "\r\n\r\n");
  EXPECT_THAT(large_header.ReadToEnd(), StartsWith("HTTP/1.1 431"));
  RawClient large_body(echo.port());
  large_body.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n" +
                  std::string(101, 'x'));
  EXPECT_THAT(large_body.ReadToEnd(),
              AllOf(StartsWith("HTTP/1.1 413"), HasSubstr("more than 100 bytes")));
  RawClient large_chunks(echo.port());
  large_chunks.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n" +
                    std::string(128, 'x') + "\r\n0\r\n\r\n");
  EXPECT_THAT(large_chunks.ReadToEnd(), StartsWith("HTTP/1.1 413"));
}

TEST(HttpServerTest, ABodyIsInvitedWhenTheClientWaitsForThat) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
  client.Send("abc");
  EXPECT_THAT(client.ReadAnswer(), EndsWith("POST /a [abc]"));
}

TEST(HttpServerTest, ABodyThatIsNotWantedIsNotWaitedFor) {
  EchoServer echo;
  for (const char* expect : {"", "Expect: 100-continue\r\n"}) {
    RawClient client(echo.port());
    client.Send(std::string("POST /closed HTTP/1.1\r\nHost: x\r\n") + expect +
                "Content-Length: 1000000\r\n\r\n");
    EXPECT_THAT(client.ReadToEnd(), StartsWith("HTTP/1.1 401"));
  }
}

TEST(HttpServerTest, BoundsTheBodiesOfAllConnectionsTogether) {
  HttpOptions options;
  options.limits.all_body_bytes = 1000;
  options.limits.body_time = std::chrono::seconds(1);
  EchoServer echo(options);
  const std::string head = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n";
  // Unless the second one's bytes are read first: then both end for being late.
  EXPECT_TRUE(Eventually([&] {
    RawClient first(echo.port());
    first.Send(head + std::string(800, 'x'));
    RawClient second(echo.port());
    second.Send(head + std::string(300, 'x'));
    return second.ReadToEnd().rfind("HTTP/1.1 503", 0) == 0;
  }));
  // They count no longer when their clients have left.
  EXPECT_TRUE(Eventually([&] { return echo.server().connections() == 0; }));
  for (int i = 0; i < 3; ++i) {
    RawClient client(echo.port());
    client.Send(head + std::string(800, 'x'));
    client.Send(std::string(100, 'x'));
    EXPECT_THAT(client.ReadAnswer(), StartsWith("HTTP/1.1 200"));
  }
}

TEST(HttpServerTest, TakesTargetsThatNameTheServer) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), EndsWith("GET /a []"));
}

TEST(HttpServerTest, EndsAClientThatSendsItsHeadersTooSlowly) {
  HttpOptions options;
  options.limits.header_time = std::chrono::milliseconds(100);
  EchoServer echo(options);
  RawClient client(echo.port());
  client.Send("GET / HTTP/1.1\r\n");
  std::thread drip([&client] {
    while (client.Send("X: y\r\n")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  EXPECT_TRUE(Eventually([&] { return echo.server().connections() == 0; }));
  drip.join();
}

TEST(HttpServerTest, EndsAnIdleConnectionAndSaysWhenABodyIsLate) {
  HttpOptions options;
  options.limits.idle = std::chrono::milliseconds(50);
  options.limits.body_time = std::chrono::milliseconds(50);
  EchoServer echo(options);
  RawClient idle(echo.port());
  EXPECT_EQ(idle.ReadToEnd(), "");
  // With an idle limit of its own: this one must have time to send its first byte.
  options.limits.idle = std::chrono::seconds(60);
  EchoServer patient(options);
  RawClient late(patient.port());
  late.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
  EXPECT_THAT(late.ReadToEnd(), StartsWith("HTTP/1.1 408"));
}

TEST(HttpServerTest, RefusesConnectionsBeyondTheCapAtOnce) {
  HttpOptions options;
  options.limits.connections = 1;
  EchoServer echo(options);
  RawClient first(echo.port());
  first.Send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(first.ReadAnswer(), EndsWith("GET /a []"));
  RawClient second(echo.port());
  EXPECT_THAT(second.ReadToEnd(), StartsWith("HTTP/1.1 503"));
  first.Close();
  EXPECT_TRUE(Eventually([&] { return echo.server().connections() == 0; }));
  RawClient third(echo.port());
  third.Send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(third.ReadAnswer(), EndsWith("GET /b []"));
}

TEST(HttpServerTest, SendsPiecesAsTheyComeInChunks) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = echo.Held();
  exchange->Begin({.content_type = "text/event-stream"});
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("Transfer-Encoding: chunked\r\n"));
  exchange->Send("data: one\n\n");
  EXPECT_EQ(client.ReadUntil("one\n\n\r\n"), "b\r\ndata: one\n\n\r\n");
  exchange->Send("data: two\n\n");
  exchange->End();
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), EndsWith("data: two\n\n\r\n0\r\n\r\n"));
  client.Send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), EndsWith("GET /next []"));
}

TEST(HttpServerTest, AnOldClientGetsPiecesUntilTheEndOfTheConnection) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET /hold HTTP/1.0\r\n\r\n");
  const auto exchange = echo.Held();
  exchange->Begin({.content_type = "text/event-stream"});
  exchange->Send("data: one\n\n");
  exchange->End();
  EXPECT_THAT(client.ReadToEnd(),
              AllOf(EndsWith("\r\n\r\ndata: one\n\n"), Not(HasSubstr("Transfer-Encoding"))));
}

TEST(HttpServerTest, TellsTheMakerWhenTheClientLeaves) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = echo.Held();
  std::atomic<bool> gone = false;
  exchange->OnGone([&] { gone = true; });
  client.Close();
  EXPECT_TRUE(Eventually([&] { return gone.load(); }));
  std::atomic<bool> known = false;
  exchange->OnGone([&] { known = true; });
  EXPECT_TRUE(known);
  EXPECT_EQ(exchange->Send("nobody reads this"), 0U);
}

TEST(HttpServerTest, CutsOffAClientThatTakesNothing) {
  HttpOptions options;
  options.limits.write_time = std::chrono::milliseconds(100);
  EchoServer echo(options);
  RawClient client(echo.port());
  client.SetReceiveBuffer(4096);
  client.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = echo.Held();
  std::atomic<bool> gone = false;
  exchange->OnGone([&] { gone = true; });
  exchange->Begin({.content_type = "text/event-stream"});
  std::size_t waiting = 0;
  for (int i = 0; i < 200 && !gone; ++i) {
    waiting = std::max(waiting, exchange->Send(std::string(1 << 17, 'x')));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(Eventually([&] { return gone.load(); }));
  EXPECT_GT(waiting, std::size_t{1} << 17);  // the maker saw that it was too fast
}

TEST(HttpServerTest, EchoesARequestIdAndDrawsOneOtherwise) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine-7\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("X-Request-Id: mine-7\r\n"));
  client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), HasSubstr("X-Request-Id: "));
}

TEST(HttpServerTest, CorsIsAnsweredForConfiguredOriginsOnly) {
  HttpOptions options;
  options.cors_origins = {"https://chat.example"};
  EchoServer echo(options);
  RawClient client(echo.port());
  client.Send(
      "OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: https://chat.example\r\n"
      "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(),
              AllOf(StartsWith("HTTP/1.1 204"),
                    HasSubstr("Access-Control-Allow-Origin: https://chat.example\r\n"),
                    HasSubstr("Access-Control-Allow-Headers: x-a\r\n")));
  client.Send("GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n");
  EXPECT_THAT(client.ReadAnswer(), Not(HasSubstr("Access-Control")));
}

TEST(HttpServerTest, DrainingWaitsForRunningAnswersAndEndsIdleConnections) {
  EchoServer echo;
  RawClient idle(echo.port());
  RawClient busy(echo.port());
  busy.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = echo.Held();
  std::thread drain([&] { echo.server().Drain(std::chrono::seconds(10)); });
  EXPECT_EQ(idle.ReadToEnd(), "");
  exchange->Respond({.body = "late"});
  EXPECT_THAT(busy.ReadToEnd(), AllOf(HasSubstr("Connection: close\r\n"), EndsWith("late")));
  drain.join();
  EXPECT_EQ(echo.server().connections(), 0U);
}

TEST(HttpServerTest, DrainingCutsOffWhatDoesNotEndInTime) {
  EchoServer echo;
  RawClient client(echo.port());
  client.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto exchange = echo.Held();
  std::atomic<bool> gone = false;
  exchange->OnGone([&] { gone = true; });
  echo.server().Drain(std::chrono::milliseconds(20));
  EXPECT_TRUE(gone);
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST(HttpServerTest, APortInUseIsNamed) {
  EchoServer echo;
  HttpOptions options;
  options.listen = "127.0.0.1:" + std::to_string(echo.port());
  const auto second = HttpServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("HTTP"));
}

}  // namespace
}  // namespace yangtuo::gateway
