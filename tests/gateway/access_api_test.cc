// API keys, limits and the audit log at the two doors of a gateway between fakes.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/api_keys.h"
#include "tests/gateway/gateway_harness.h"
#include "tests/gateway/raw_client.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo::gateway {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using yangtuo::testing::FakeTokenizer;
using yangtuo::testing::FakeWorker;
using yangtuo::testing::RawClient;

constexpr char kCompletion[] = R"({"prompt": "ab", "max_tokens": 100})";

ApiKey KeyOf(const std::string& text, const std::string& tenant) {
  ApiKey key;
  key.digest = DigestOfKey(text);
  key.tenant = tenant;
  return key;
}

struct Reply {
  int status = 0;
  std::string head;
  json body;

  [[nodiscard]] std::string code() const {
    return body.is_object() && body.contains("error") && body["error"]["code"].is_string()
               ? body["error"]["code"].get<std::string>()
               : "";
  }
  // The value of a header, -1 without it.
  [[nodiscard]] int Number(const std::string& header) const {
    const std::size_t at = head.find(header + ": ");
    return at == std::string::npos ? -1 : std::stoi(head.substr(at + header.size() + 2));
  }
};

class AccessApiTest : public ::testing::Test {
 protected:
  AccessApiTest() {
    key_.models = {"fake-model"};
    other_.models = {"another-model"};
  }

  // A gateway that knows `key_` ("one") and `other_` ("two").
  void Start(const Cluster::Change& change = {}) {
    WriteKeys();
    cluster_.emplace(std::vector<FakeWorker*>{&worker_}, std::vector<FakeTokenizer*>{&tokenizer_},
                     [&](GatewayOptions& options) {
                       options.api_keys_file = keys_path_;
                       options.audit_log = audit_path_;
                       if (change) {
                         change(options);
                       }
                     });
  }
  void WriteKeys() { ASSERT_TRUE(WriteApiKeysFile(keys_path_, {key_, other_}).ok()); }

  Reply Ask(const std::string& key, const std::string& method, const std::string& path,
            const std::string& body = "") {
    RawClient client(cluster_->gateway().http_port());
    client.Send(method + " " + path + " HTTP/1.1\r\nHost: x\r\nX-Request-Id: test-1\r\n" +
                (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n") +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    const std::string answer = client.ReadAnswer();
    Reply reply;
    const std::size_t end = std::min(answer.size(), answer.find("\r\n\r\n"));
    reply.head = answer.substr(0, end);
    reply.status = reply.head.size() > 12 ? std::stoi(reply.head.substr(9, 3)) : 0;
    reply.body = json::parse(answer.substr(std::min(answer.size(), end + 4)), nullptr, false);
    return reply;
  }
  Reply Complete(const std::string& key) {
    return Ask(key, "POST", "/v1/completions", kCompletion);
  }

  absl::Status CallGrpc(const std::string& key, const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    if (!key.empty()) {
      context.AddMetadata("authorization", "Bearer " + key);
    }
    const auto stream = cluster_->stub().Generate(&context, request);
    for (v1::GenerateResponse response; stream->Read(&response);) {
    }
    return FromGrpc(stream->Finish());
  }

  [[nodiscard]] std::vector<json> AuditLines() const {
    std::vector<json> lines;
    std::ifstream in(audit_path_);
    for (std::string line; std::getline(in, line);) {
      lines.push_back(json::parse(line));
    }
    return lines;
  }

  const TempDir folder_;
  const std::string keys_path_ = folder_.path() / "keys.json";
  const std::string audit_path_ = folder_.path() / "audit.log";
  ApiKey key_ = KeyOf("one", "tenant-one");
  ApiKey other_ = KeyOf("two", "tenant-two");
  FakeWorker worker_{Says("ok")};
  FakeTokenizer tokenizer_;
  std::optional<Cluster> cluster_;
};

TEST_F(AccessApiTest, WithoutAValidKeyNothingIsAnswered) {
  Start();
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize",
                           "/detokenize", "/apply-template"}) {
    const Reply missing = Ask("", "POST", path, "not even JSON");
    EXPECT_EQ(missing.status, 401) << path;
    EXPECT_EQ(missing.code(), "missing_api_key") << path;
    EXPECT_EQ(missing.body["error"]["type"], "authentication_error");
    EXPECT_THAT(missing.head, HasSubstr("WWW-Authenticate: Bearer"));
    EXPECT_EQ(Ask("three", "POST", path, "{}").code(), "invalid_api_key") << path;
  }
  EXPECT_EQ(Ask("", "GET", "/v1/models").status, 401);
  EXPECT_EQ(Ask("", "GET", "/v1/models/fake-model").status, 401);
  EXPECT_TRUE(worker_.requests().empty());
  EXPECT_THAT(cluster_->Exposed(), HasSubstr("code=\"UNAUTHENTICATED\",method=\"ListModels\"} 1"));
}

TEST_F(AccessApiTest, HealthVersionAndThePageAreOpen) {
  Start();
  for (const char* path : {"/health", "/version", "/", "/chat.js"}) {
    EXPECT_EQ(Ask("", "GET", path).status, 200) << path;
  }
}

TEST_F(AccessApiTest, TheTenantGoesToTheWorkerWithASaltOfItsOwn) {
  Start();
  EXPECT_EQ(Complete("one").status, 200);
  other_.models.clear();
  WriteKeys();
  EXPECT_TRUE(Eventually([&] { return Complete("two").status == 200; }));
  const auto requests = worker_.requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].tenant(), "tenant-one");
  EXPECT_EQ(requests[1].tenant(), "tenant-two");
  EXPECT_FALSE(requests[0].cache_salt().empty());
  EXPECT_NE(requests[0].cache_salt(), requests[1].cache_salt());
}

TEST_F(AccessApiTest, ModelsAreThoseOfTheKey) {
  Start();
  EXPECT_EQ(Ask("one", "GET", "/v1/models").body["data"].size(), 1U);
  EXPECT_EQ(Ask("two", "GET", "/v1/models").body["data"].size(), 0U);
  const Reply refused =
      Ask("two", "POST", "/v1/completions", R"({"prompt": "a", "model": "fake-model"})");
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.code(), "model_not_allowed");
  EXPECT_EQ(Ask("two", "GET", "/v1/models/fake-model").status, 403);
  // What does not exist is not told from what is not allowed, and names of others are not told.
  EXPECT_EQ(Ask("two", "GET", "/v1/models/nothing").status, 403);
  const Reply absent = Ask("two", "POST", "/v1/completions", R"({"prompt": "a"})");
  EXPECT_EQ(absent.status, 404);
  EXPECT_THAT(absent.body.dump(), Not(HasSubstr("fake-model")));
  v1::GenerateRequest request = TextRequest("a");
  request.set_model("fake-model");
  EXPECT_EQ(CallGrpc("two", request).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(worker_.requests().empty());
}

TEST_F(AccessApiTest, PrioritiesAboveTheCapAreRefusedAndTheDefaultIsLowered) {
  key_.max_priority = -20;
  Start();
  v1::GenerateRequest request = TextRequest("a");
  EXPECT_TRUE(CallGrpc("one", request).ok());
  EXPECT_EQ(worker_.requests().back().priority(), -20);
  request.set_priority(5);
  const absl::Status refused = CallGrpc("one", request);
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ReasonOf(refused), "PRIORITY_NOT_ALLOWED");
}

TEST_F(AccessApiTest, RequestsAboveTheRateAreToldWhenToComeBack) {
  key_.requests_per_minute = 2;
  Start();
  EXPECT_THAT(Complete("one").head, AllOf(HasSubstr("x-ratelimit-limit-requests: 2"),
                                          HasSubstr("x-ratelimit-remaining-requests: 1")));
  // Listing models costs nothing.
  EXPECT_EQ(Ask("one", "GET", "/v1/models").status, 200);
  EXPECT_EQ(Complete("one").status, 200);
  const Reply refused = Complete("one");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.code(), "rate_limit_exceeded");
  EXPECT_EQ(refused.body["error"]["type"], "rate_limit_error");
  EXPECT_THAT(refused.head, HasSubstr("x-ratelimit-remaining-requests: 0"));
  EXPECT_LE(refused.Number("Retry-After"), 30);
  EXPECT_GE(refused.Number("Retry-After"), 20) << "30, but this machine may be busy";
  const absl::Status grpc_refused = CallGrpc("one", TextRequest("a"));
  EXPECT_EQ(grpc_refused.code(), absl::StatusCode::kResourceExhausted);
  google::rpc::RetryInfo retry;
  const auto payload = grpc_refused.GetPayload("type.googleapis.com/google.rpc.RetryInfo");
  ASSERT_TRUE(payload.has_value() && retry.ParseFromString(std::string(*payload)));
  EXPECT_GE(retry.retry_delay().seconds(), 15);
  EXPECT_LE(retry.retry_delay().seconds(), 30);
  EXPECT_THAT(cluster_->Exposed(), HasSubstr("yangtuo_rejected_total{reason=\"REQUEST_RATE\"} 2"));
  EXPECT_EQ(Ask("two", "GET", "/v1/models").status, 200) << "each key has limits of its own";
}

TEST_F(AccessApiTest, TokensOfPromptsAndAnswersAreCharged) {
  key_.tokens_per_minute = 60;
  Start();
  // BOS, "ab", and "ok" with the end of text: what usage tells is what is charged.
  const Reply first = Complete("one");
  ASSERT_EQ(first.status, 200) << first.body;
  const int used = first.body["usage"]["total_tokens"].get<int>();
  EXPECT_GE(used, 5);
  EXPECT_GE(first.Number("x-ratelimit-remaining-tokens"), 60 - used);
  EXPECT_LT(first.Number("x-ratelimit-remaining-tokens"), 60) << "one comes back every second";
  const std::string large = json{{"prompt", std::string(200, 'a')}}.dump();
  EXPECT_EQ(Ask("one", "POST", "/v1/completions", large).status, 200) << "overdrawn once";
  const Reply refused = Complete("one");
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.body["error"]["message"].get<std::string>(), HasSubstr("60 tokens a minute"));
  EXPECT_THAT(refused.head, HasSubstr("x-ratelimit-remaining-tokens: 0"));
}

// What was embedded costs, whatever became of the answer.
TEST_F(AccessApiTest, TokensOfEmbeddingsAreChargedBeforeTheyAreComputed) {
  key_.tokens_per_minute = 60;
  testing::FakeWorkerScript script = Says("ok");
  script.embed = [](const auto&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full");
  };
  worker_.SetScript(script);
  Start();
  const std::string large = json{{"input", std::string(200, 'a')}}.dump();
  EXPECT_EQ(Ask("one", "POST", "/v1/embeddings", large).body["error"]["message"], "queue full");
  EXPECT_THAT(
      Ask("one", "POST", "/v1/embeddings", large).body["error"]["message"].get<std::string>(),
      HasSubstr("60 tokens a minute"));
}

TEST_F(AccessApiTest, AnUploadWithoutAKeyIsRefusedBeforeItsBody) {
  Start();
  RawClient client(cluster_->gateway().http_port());
  client.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{");
  EXPECT_THAT(client.ReadToEnd(),
              AllOf(HasSubstr("HTTP/1.1 401"), HasSubstr("authentication_error")));
}

TEST_F(AccessApiTest, OnlySoManyRequestsRunAtATime) {
  key_.max_requests = 1;
  testing::FakeWorkerScript script = Says("ok");
  script.hold_at = 0;
  worker_.SetScript(script);
  Start();
  {
    RawClient first(cluster_->gateway().http_port());
    first.Send(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer one\r\n"
        "Content-Length: " +
        std::to_string(std::string(kCompletion).size()) + "\r\n\r\n" + kCompletion);
    ASSERT_TRUE(Eventually([&] { return worker_.running() == 1; }));
    const Reply refused = Complete("one");
    EXPECT_EQ(refused.status, 429);
    EXPECT_THAT(refused.head, HasSubstr("Retry-After: 1"));
    first.Close();
  }
  ASSERT_TRUE(Eventually([&] { return worker_.running() == 0 && cluster_->Idle(); }));
  worker_.SetScript(Says("ok"));
  EXPECT_EQ(Complete("one").status, 200) << "the place is free when the client has left";
}

TEST_F(AccessApiTest, SeveralPromptsOfACallCountAsSeveralRequests) {
  key_.requests_per_minute = 4;
  Start();
  const Reply reply =
      Ask("one", "POST", "/v1/completions", R"({"prompt": ["a", "b", "c"], "max_tokens": 5})");
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_THAT(reply.head, HasSubstr("x-ratelimit-remaining-requests: 1"));
}

TEST_F(AccessApiTest, GrpcAsksForTheKeyInEveryCall) {
  Start();
  const absl::Status missing = CallGrpc("", TextRequest("a"));
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(ReasonOf(missing), "MISSING_API_KEY");
  EXPECT_EQ(ReasonOf(CallGrpc("three", TextRequest("a"))), "INVALID_API_KEY");
  EXPECT_TRUE(CallGrpc("one", TextRequest("a")).ok());
  const auto unary = [&](const auto& call) {
    grpc::ClientContext context;
    return call(context).error_code();
  };
  v1::GenerationService::Stub& stub = cluster_->stub();
  EXPECT_EQ(unary([&](grpc::ClientContext& context) {
              v1::EmbedRequest request;
              request.add_texts("a");
              v1::EmbedResponse response;
              return stub.Embed(&context, request, &response);
            }),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(unary([&](grpc::ClientContext& context) {
              v1::TokenizeRequest request;
              request.set_text("a");
              v1::TokenizeResponse response;
              return stub.Tokenize(&context, request, &response);
            }),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(unary([&](grpc::ClientContext& context) {
              v1::DetokenizeRequest request;
              request.add_token_ids(5);
              v1::DetokenizeResponse response;
              return stub.Detokenize(&context, request, &response);
            }),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(unary([&](grpc::ClientContext& context) {
              v1::ListModelsResponse response;
              return stub.ListModels(&context, {}, &response);
            }),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(unary([&](grpc::ClientContext& context) {
              v1::GetModelResponse response;
              return stub.GetModel(&context, {}, &response);
            }),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(AccessApiTest, AChangeOfTheFileIsInForceWithoutARestart) {
  Start();
  EXPECT_EQ(Complete("one").status, 200);
  key_.digest = DigestOfKey("four");
  WriteKeys();
  EXPECT_TRUE(Eventually([&] { return Complete("four").status == 200; }));
  EXPECT_EQ(Complete("one").status, 401);
  std::ofstream(keys_path_, std::ios::trunc) << "{";
  EXPECT_TRUE(Eventually([&] {
    return cluster_->Exposed().find("yangtuo_api_keys_file_valid 0") != std::string::npos;
  }));
  EXPECT_EQ(Complete("four").status, 200) << "the old keys stay in force";
}

TEST_F(AccessApiTest, EveryRequestHasALineInTheAuditLogWithoutItsText) {
  Start();
  EXPECT_EQ(Complete("one").status, 200);
  EXPECT_EQ(Ask("one", "POST", "/tokenize", R"({"prompt": "secret"})").status, 200);
  EXPECT_EQ(Ask("one", "POST", "/detokenize", R"({"tokens": [5]})").status, 200);
  EXPECT_EQ(Ask("one", "POST", "/apply-template", R"({"messages": "secret"})").status, 200);
  EXPECT_EQ(Ask("one", "POST", "/v1/embeddings", R"({"input": "secret"})").status, 200);
  EXPECT_EQ(Ask("one", "GET", "/v1/models").status, 200);
  EXPECT_EQ(Complete("three").status, 401);
  EXPECT_EQ(Ask("one", "POST", "/v1/completions", R"({"prompt": 7})").status, 400);
  EXPECT_TRUE(CallGrpc("one", TextRequest("secret")).ok());
  ASSERT_TRUE(Eventually([&] { return AuditLines().size() == 9; }));
  const std::vector<json> lines = AuditLines();
  std::vector<std::string> endpoints;
  for (const json& line : lines) {
    endpoints.push_back(line["endpoint"].get<std::string>() + " " +
                        line["status"].get<std::string>());
    EXPECT_THAT(line.dump(), Not(HasSubstr("secret")));
  }
  EXPECT_THAT(endpoints,
              ::testing::ElementsAre(
                  "/v1/completions OK", "/tokenize OK", "/detokenize OK", "/apply-template OK",
                  "/v1/embeddings OK", "/v1/models OK", "/v1/completions UNAUTHENTICATED",
                  "/v1/completions INVALID_ARGUMENT", "yangtuo.v1.GenerationService/Generate OK"));
  EXPECT_EQ(lines[0]["tenant"], "tenant-one");
  EXPECT_EQ(lines[0]["key"], key_.Id());
  EXPECT_EQ(lines[0]["request_id"], "test-1");
  EXPECT_EQ(lines[0]["model"], "fake-model");
  EXPECT_EQ(lines[0]["prompt_tokens"], 3);
  EXPECT_GE(lines[0]["completion_tokens"], 2);
  EXPECT_GT(lines[0]["ttft_seconds"], 0);
  EXPECT_EQ(lines[6]["tenant"], "");
  EXPECT_EQ(lines[6]["reason"], "INVALID_API_KEY");
  for (const char* method :
       {"Tokenize", "Detokenize", "ApplyTemplate", "ListModels", "Embed", "Generate"}) {
    EXPECT_THAT(cluster_->Exposed(),
                HasSubstr(std::string("code=\"OK\",method=\"") + method + "\"}"));
  }
}

TEST_F(AccessApiTest, PromptsAreInTheAuditLogOnlyWhenAskedFor) {
  Start([](GatewayOptions& options) { options.audit_prompts = true; });
  EXPECT_EQ(Complete("one").status, 200);
  EXPECT_EQ(Ask("one", "POST", "/v1/chat/completions", R"({"messages": "你好"})").status, 200);
  ASSERT_TRUE(Eventually([&] { return AuditLines().size() == 2; }));
  EXPECT_EQ(AuditLines()[0]["prompt"], "ab");
  EXPECT_EQ(AuditLines()[1]["prompt"], "user: 你好\n");
}

TEST(CheckGatewayOptionsTest, TheAdminPortIsNotAtTheAddressForClients) {
  const auto check = [](const std::string& listen, const std::string& http,
                        const std::string& admin) {
    GatewayOptions options;
    options.workers = {"127.0.0.1:1"};
    options.tokenizers = {"127.0.0.1:2"};
    options.service.listen = listen;
    options.http.listen = http;
    options.service.admin_listen = admin;
    const absl::Status refused = CheckGatewayOptions(options);
    options.admin_on_public_address = true;
    EXPECT_TRUE(CheckGatewayOptions(options).ok());
    return refused.ok() ? "OK" : std::string(refused.message());
  };
  EXPECT_EQ(check("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), "OK");
  EXPECT_EQ(check("0.0.0.0:1", "0.0.0.0:2", "127.0.0.1:3"), "OK");
  EXPECT_EQ(check("10.0.0.1:1", "", "192.168.0.1:3"), "OK");
  EXPECT_EQ(check("127.0.0.1:1", "[::1]:2", "0.0.0.0:3"), "OK");
  EXPECT_EQ(check("0.0.0.0:1", "", ""), "OK");
  EXPECT_THAT(check("0.0.0.0:1", "", "0.0.0.0:3"), HasSubstr("--admin-on-public-address"));
  EXPECT_THAT(check("127.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"), HasSubstr("10.0.0.1:3"));
  EXPECT_THAT(check("10.0.0.1:1", "", "0.0.0.0:3"), HasSubstr("0.0.0.0:3"));
  EXPECT_THAT(check("[::]:1", "", "10.0.0.1:3"), HasSubstr("[::]:1"));
}

}  // namespace
}  // namespace yangtuo::gateway
