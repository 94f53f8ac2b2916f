#include "tools/bench_gateway/bench_gateway.h"

#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/gateway/gateway_harness.h"
#include "tools/bench_gateway/token_producer.h"

namespace yangtuo::bench_gateway {
namespace {

using ::testing::HasSubstr;

TEST(BenchGatewayTest, EveryTokenArrivesAndTheReportSaysSo) {
  testing::FakeTokenizer tokenizer;
  const auto producer = TokenProducer::Start(
      {.model = "fake-model", .tokenizer_digest = "fake-tokenizer", .vocabulary_size = 259});
  ASSERT_TRUE(producer.ok()) << producer.status();
  gateway::GatewayOptions options;
  options.service.admin_listen = "";
  options.workers = {(*producer)->address()};
  options.tokenizers = {tokenizer.address()};
  Metrics metrics;
  const auto running = gateway::Gateway::Start(options, metrics);
  ASSERT_TRUE(running.ok()) << running.status();
  const LoadTarget target{
      .gateway = std::string("127.0.0.1:").append(std::to_string((*running)->port())),
      .model = "fake-model",
      .ids = testing::FakeTokenizer::Ids("abcdefghijklmnopqrstuvwxyz"),
      .producer = producer->get()};
  ASSERT_TRUE(WaitForModel(target).ok());
  BenchGatewayOptions bench;
  bench.load = {
      .streams = 40, .tokens_per_second = 20, .warmup_seconds = 0.2, .measured_seconds = 0.5};
  bench.ramp = false;
  const auto report = RunLoads(target, bench);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->asked.streams_failed, 0U) << report->asked.first_error;
  EXPECT_EQ(report->asked.tokens_wrong, 0U);
  EXPECT_GT(report->asked.produced_per_second, 500);
  EXPECT_GT(report->asked.delay_p50, 0);
  EXPECT_GE(report->asked.delay_p99, report->asked.delay_p50);
  std::ostringstream table;
  PrintTable(*report, table);
  EXPECT_THAT(table.str(), HasSubstr("Highest sustained load"));
  std::ostringstream json;
  PrintJson(*report, json);
  EXPECT_EQ(nlohmann::json::parse(json.str())["asked"]["tokens_wrong"], 0);
}

TEST(BenchGatewayTest, EveryTokenArrivesAsServerSentEventsBesideClientsThatDoNotRead) {
  testing::FakeTokenizer tokenizer;
  const auto producer = TokenProducer::Start(
      {.model = "fake-model", .tokenizer_digest = "fake-tokenizer", .vocabulary_size = 259});
  ASSERT_TRUE(producer.ok()) << producer.status();
  gateway::GatewayOptions options;
  options.service.admin_listen = "";
  options.http.listen = "127.0.0.1:0";
  options.workers = {(*producer)->address()};
  options.tokenizers = {tokenizer.address()};
  Metrics metrics;
  const auto running = gateway::Gateway::Start(options, metrics);
  ASSERT_TRUE(running.ok()) << running.status();
  LoadTarget target{
      .gateway = std::string("127.0.0.1:").append(std::to_string((*running)->port())),
      .model = "fake-model",
      .ids = testing::FakeTokenizer::Ids("abcdefghijklmnopqrstuvwxyz"),
      .http = std::string("127.0.0.1:").append(std::to_string((*running)->http_port())),
      .producer = producer->get()};
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    const std::string text(1, letter);
    target.texts.emplace(testing::FakeTokenizer::Ids(text).front(), text);
  }
  ASSERT_TRUE(WaitForModel(target).ok());
  StepOptions load{
      .streams = 40, .tokens_per_second = 20, .warmup_seconds = 0.2, .measured_seconds = 0.5};
  load.http = true;
  load.bad_clients = 10;
  const auto result = RunStep(target, load);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->streams_failed, 0U) << result->first_error;
  EXPECT_EQ(result->tokens_wrong, 0U);
  EXPECT_GT(result->delivered_per_second, 100);
  EXPECT_GT(result->delay_p50, 0);
  // A wrong text is seen: what is compared is what was sent.
  target.texts.begin()->second = "?";
  const auto wrong = RunStep(target, load);
  ASSERT_TRUE(wrong.ok()) << wrong.status();
  EXPECT_GT(wrong->tokens_wrong, 0U);
  EXPECT_GT(wrong->streams_failed, 0U);
}

TEST(BenchGatewayTest, FailsWithAReasonWhenTheProgramsAreMissing) {
  BenchGatewayOptions options;
  options.programs = "/nonexistent";
  std::ostringstream out;
  EXPECT_EQ(RunBenchGateway(options, out), 1);
  EXPECT_THAT(out.str(), HasSubstr("/nonexistent/yangtuo-tokenizer"));
}

TEST(TokenPlanTest, DistinguishesStreamsAndPositions) {
  const TokenPlan plan({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 100, 100);
  int equal = 0;
  for (std::size_t i = 0; i < 100; ++i) {
    equal += plan.Token(1, i) == plan.Token(2, i) ? 1 : 0;
    equal += plan.Token(1, i) == plan.Token(1, i + 1) ? 1 : 0;
  }
  EXPECT_LT(equal, 60);
}

}  // namespace
}  // namespace yangtuo::bench_gateway
