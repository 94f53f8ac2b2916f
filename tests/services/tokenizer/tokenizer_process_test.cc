#include "services/tokenizer/tokenizer_process.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/services/tokenizer/small_tokenizer.h"

namespace yangtuo {
namespace {

using testing::HasSubstr;

std::string LoadError(const TokenizerProcessOptions& options) {
  return TokenizersToLoad(options).status().ToString();
}

class TokenizerProcessTest : public testing::Test {
 protected:
  TokenizerProcessTest() {
    std::filesystem::create_directory(model());
    WriteSmallModel(model());
  }
  [[nodiscard]] std::filesystem::path model() const { return folder_.path() / "poem"; }

  TempDir folder_;
  Metrics metrics_;
};

TEST_F(TokenizerProcessTest, NamesTokenizersAfterTheirFlagTheirFolderOrTheirFile) {
  std::filesystem::copy_file(model() / "tokenizer.model", folder_.path() / "llama.model");
  const auto models =
      TokenizersToLoad({.models = {"x=" + model().string(), model().string(),
                                   model().string() + "/", (model() / "tokenizer.model").string(),
                                   (folder_.path() / "llama.model").string()},
                        .templates = {"x=alpaca-2"}});

  ASSERT_TRUE(models.ok()) << models.status();
  std::vector<std::string> names;
  for (const TokenizerToLoad& each : *models) {
    names.push_back(each.name);
  }
  EXPECT_THAT(names, testing::ElementsAre("x", "poem", "poem", "poem", "llama"));
  EXPECT_EQ(models->front().chat_template, "alpaca-2");
}

TEST_F(TokenizerProcessTest, SaysWhichFlagIsWrong) {
  const std::string path = model().string();
  EXPECT_THAT(LoadError({}), HasSubstr("at least one --model"));
  EXPECT_THAT(LoadError({.models = {"=" + path}}), HasSubstr("NAME=PATH"));
  EXPECT_THAT(LoadError({.models = {path + "x"}}), HasSubstr("there is no"));
  EXPECT_THAT(LoadError({.models = {path}, .templates = {"other=alpaca"}}),
              HasSubstr("the name of a --model"));
  EXPECT_THAT(LoadError({.models = {path}, .templates = {"poem=chatml"}}), HasSubstr("alpaca-2"));
}

TEST_F(TokenizerProcessTest, DoesNotStartWithADamagedModelOrTwoOfTheSameName) {
  EXPECT_THAT(TokenizerProcess::Start({.models = {model().string(), model().string()}}, metrics_)
                  .status()
                  .ToString(),
              HasSubstr("two tokenizers are named \"poem\""));
  WriteTestFile(model() / "tokenizer.model", "junk");
  const auto damaged = TokenizerProcess::Start({.models = {model().string()}}, metrics_);
  EXPECT_EQ(damaged.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(damaged.status().ToString(), HasSubstr("poem/tokenizer.model"));
}

TEST_F(TokenizerProcessTest, ServesWithHealthUntilItDrains) {
  auto process = TokenizerProcess::Start({.models = {model().string()}}, metrics_);
  ASSERT_TRUE(process.ok()) << process.status();
  const auto channel = grpc::CreateChannel(absl::StrFormat("127.0.0.1:%d", (*process)->port()),
                                           grpc::InsecureChannelCredentials());
  const auto health = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(kTokenizerServiceName);
  const auto watch = health->Watch(&context, request);
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);

  (*process)->Drain(std::chrono::seconds(5));

  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
}

}  // namespace
}  // namespace yangtuo
