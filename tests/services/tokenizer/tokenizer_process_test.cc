#include "services/tokenizer/tokenizer_process.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "inference_core/formats/gguf_writer.h"
#include "services/common/log.h"
#include "tests/inference_core/tokenizer/golden.h"
#include "tests/services/tokenizer/small_tokenizer.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo {
namespace {

using testing::HasSubstr;
using testing::Not;

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

constexpr char kVocabulary[] = "golden/llama.cpp-spm/ggml-vocab-llama-spm.gguf";

TEST_F(TokenizerProcessTest, ServesTheTokenizerOfAGgufFile) {
  const auto file = SharedData(kVocabulary);
  const std::vector<GoldenCase> cases = ReadGolden("encode-llama");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto process = TokenizerProcess::Start({.models = {file->string()}}, metrics_);
  ASSERT_TRUE(process.ok()) << process.status();
  const auto stub = internal::v1::TokenizerService::NewStub(grpc::CreateChannel(
      absl::StrFormat("127.0.0.1:%d", (*process)->port()), grpc::InsecureChannelCredentials()));
  constexpr std::size_t kAtOnce = 200;
  ASSERT_GT(cases.size(), 2 * kAtOnce);
  for (std::size_t first = 0; first < cases.size(); first += kAtOnce) {
    const std::size_t count = std::min(kAtOnce, cases.size() - first);
    internal::v1::EncodeRequest request;
    for (std::size_t i = 0; i < count; ++i) {
      request.add_texts(cases[first + i].text);
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    internal::v1::EncodeResponse response;
    const grpc::Status status = stub->Encode(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(response.texts_size(), static_cast<int>(count));
    for (std::size_t i = 0; i < count; ++i) {
      const auto& ids = response.texts(static_cast<int>(i)).ids();
      EXPECT_EQ(std::vector<std::int32_t>(ids.begin(), ids.end()), cases[first + i].ids)
          << cases[first + i].label;
    }
  }
}

// The vocabulary of `from` with another chat template.
void WriteGguf(const std::filesystem::path& from, const std::string& chat_template,
               const std::filesystem::path& to) {
  const auto source = GgufFile::Open(from);
  ASSERT_TRUE(source.ok()) << source.status();
  GgufKeyValues keys;
  for (const auto& [key, value] : source->metadata().entries()) {
    keys.SetValue(key, value);
  }
  keys.SetText("tokenizer.chat_template", chat_template);
  const auto writer = NewGgufWriter(to, keys, {});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Finish().ok());
}

TEST_F(TokenizerProcessTest, SaysWhatIsUsedInPlaceOfAnUnknownChatTemplate) {
  const auto file = SharedData(kVocabulary);
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const std::filesystem::path model = folder_.path() / "model.gguf";
  const auto log_of = [&](const std::string& chat_template,
                          const std::vector<std::string>& chosen) {
    WriteGguf(*file, chat_template, model);
    ConfigureLog("test", LogLevel::kInfo, LogFormat::kText);
    testing::internal::CaptureStderr();
    const auto process =
        TokenizerProcess::Start({.models = {"m=" + model.string()}, .templates = chosen}, metrics_);
    EXPECT_TRUE(process.ok()) << process.status();
    return testing::internal::GetCapturedStderr();
  };
  constexpr char kOther[] = "{{ '<|im_start|>' + message['content'] }}";
  const std::string log = log_of(kOther, {});
  EXPECT_THAT(log, HasSubstr("chat template is not known"));
  EXPECT_THAT(log, HasSubstr("none: completion only"));
  EXPECT_THAT(log, HasSubstr("--template m=TEMPLATE"));
  EXPECT_THAT(log_of("{{ '[INST] <<SYS>>' }}", {}), Not(HasSubstr("is not known")));
  EXPECT_THAT(log_of(kOther, {"m=alpaca"}), Not(HasSubstr("is not known")));
}

}  // namespace
}  // namespace yangtuo
