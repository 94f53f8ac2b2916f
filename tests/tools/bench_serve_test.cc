// The load that `yangtuo bench serve` makes, and what it says of the answers.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <signal.h>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/common/status.h"
#include "tests/testing/data.h"
#include "tests/testing/fake_server.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"
#include "tools/bench_serve/load_plan.h"
#include "tools/bench_serve/load_run.h"
#include "tools/bench_serve/serve_report.h"

namespace yangtuo::bench_serve {
namespace {

using testing::CommandRun;
using testing::FakeServer;
using ::testing::HasSubstr;

// Answers with as many tokens as it is asked for.
class TokenGateway final : public testing::FakeGateway {
 public:
  std::chrono::milliseconds first_after{0};
  std::atomic<int> most_at_once = 0;
  std::atomic<int> begun = 0;
  int refused_from = 1 << 30;  // requests from this one on
  std::uint32_t lost = 0;      // tokens that never come

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    if (begun++ >= refused_from) {
      return ToGrpc(absl::ResourceExhaustedError("64 requests wait already"));
    }
    const int at_once = ++at_once_;
    int most = most_at_once;
    while (most < at_once && !most_at_once.compare_exchange_weak(most, at_once)) {
    }
    const auto until = std::chrono::steady_clock::now() + first_after;
    while (std::chrono::steady_clock::now() < until && !context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    v1::GenerateResponse response;
    for (std::uint32_t i = lost; i < request->stop().max_new_tokens(); ++i) {
      response.mutable_delta()->clear_token_ids();
      response.mutable_delta()->add_token_ids(i);
      writer->Write(response);
    }
    v1::Usage& usage = *response.mutable_finished()->mutable_usage();
    usage.set_cached_prompt_tokens(static_cast<std::uint32_t>(request->token_ids().ids_size()) / 2);
    writer->Write(response);
    --at_once_;
    return grpc::Status::OK;
  }

 private:
  std::atomic<int> at_once_ = 0;
};

TEST(PlanLoadTest, ArrivesAsOftenAsAskedAtRandomAndIsTheSameForASeed) {
  const PlanOptions options{.requests = 20'000, .rate = 4.0};
  const auto plan = PlanLoad(options);
  EXPECT_NEAR(plan.back().at_seconds, 5'000, 150);
  // Gaps of a Poisson process are exponential: their deviation is their mean.
  double squares = 0;
  for (std::size_t i = 1; i < plan.size(); ++i) {
    const double gap = plan[i].at_seconds - plan[i - 1].at_seconds;
    squares += (gap - 0.25) * (gap - 0.25);
  }
  EXPECT_NEAR(std::sqrt(squares / 20'000), 0.25, 0.02);
  EXPECT_EQ(PlanLoad(options)[777].at_seconds, plan[777].at_seconds);
  EXPECT_EQ(PlanLoad(options)[777].prompt_tokens, plan[777].prompt_tokens);
}

TEST(PlanLoadTest, DrawsLengthsWithTheMedianAndALongTail) {
  auto plan = PlanLoad({.requests = 20'000, .context_tokens = 100'000});
  const auto by_prompt = [](const PlannedRequest& a, const PlannedRequest& b) {
    return a.prompt_tokens < b.prompt_tokens;
  };
  std::sort(plan.begin(), plan.end(), by_prompt);
  EXPECT_NEAR(plan[10'000].prompt_tokens, 130, 5);
  // One deviation above the median is the 84.13th percentile.
  EXPECT_NEAR(plan[16'827].prompt_tokens, 130 * std::exp(1.0), 15);
}

TEST(PlanLoadTest, FitsTheContextAndIsExactWithoutSpread) {
  for (const PlannedRequest& request :
       PlanLoad({.requests = 5'000, .spread = 3, .shared_prefix = 20, .context_tokens = 128})) {
    EXPECT_LE(request.prompt_tokens + request.answer_tokens, 128U);
    EXPECT_GE(request.answer_tokens, 1U);
    EXPECT_GE(request.prompt_tokens, 21U);
  }
  const auto plan = PlanLoad({.requests = 3, .prompt_tokens = 7, .answer_tokens = 9, .spread = 0});
  EXPECT_EQ(plan[2].prompt_tokens, 7U);
  EXPECT_EQ(plan[2].answer_tokens, 9U);
  EXPECT_EQ(plan[2].at_seconds, 0);
}

TEST(PromptIdsTest, ShareThePrefixAndNothingElse) {
  const PlanOptions options{.shared_prefix = 16, .vocabulary_size = 6'001};
  const PlannedRequest request{.prompt_tokens = 64};
  const auto a = PromptIds(options, request, 0);
  const auto b = PromptIds(options, request, 1);
  ASSERT_EQ(a.size(), 64U);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 16, b.begin()));
  EXPECT_NE(a[16], b[16]);
  EXPECT_LT(*std::max_element(a.begin(), a.end()), 6'001U);
}

TEST(SummarizeTest, CountsLatencyFromWhenARequestWasDue) {
  RunResult result{.requests = {}, .seconds = 10};
  result.requests.push_back({.due = 1,
                             .begun = 1.5,
                             .first = 2,
                             .end = 3,
                             .prompt_tokens = 100,
                             .cached_tokens = 25,
                             .answer_tokens = 3,
                             .gaps = {0.4, 0.6}});
  result.requests.push_back({.due = 2, .begun = 2, .status = absl::ResourceExhaustedError("full")});
  result.requests.push_back({.due = 2, .begun = 2, .status = absl::InternalError("broken")});
  const RateReport report = Summarize(result, 0.3, {.ttft_ms = 1000, .tpot_ms = 500});
  EXPECT_DOUBLE_EQ(report.ttft.p50, 1000);
  EXPECT_DOUBLE_EQ(report.tpot.mean, 500);
  EXPECT_DOUBLE_EQ(report.itl.p99, 600);
  EXPECT_DOUBLE_EQ(report.e2e.p95, 2000);
  EXPECT_DOUBLE_EQ(report.lateness.p99, 500);
  EXPECT_DOUBLE_EQ(report.goodput_per_second, 0.1);
  EXPECT_DOUBLE_EQ(report.output_tokens_per_second, 0.3);
  EXPECT_DOUBLE_EQ(report.cached_share, 0.25);
  EXPECT_EQ(report.refused, 1U);
  EXPECT_EQ(report.failed, 1U);
  EXPECT_EQ(Summarize(result, 0.3, {.ttft_ms = 999, .tpot_ms = 500}).goodput_per_second, 0);
  EXPECT_THAT(FormatReports({report}, {}), HasSubstr("sent late"));
}

TEST(SpreadOfTest, TakesTheNearestRank) {
  std::vector<double> values;
  for (int i = 100; i > 0; --i) {
    values.push_back(i);
  }
  const Spread spread = SpreadOf(values);
  EXPECT_DOUBLE_EQ(spread.mean, 50.5);
  EXPECT_DOUBLE_EQ(spread.p50, 50);
  EXPECT_DOUBLE_EQ(spread.p95, 95);
  EXPECT_DOUBLE_EQ(spread.p99, 99);
}

class RunLoadTest : public ::testing::Test {
 protected:
  RunOptions Options() {
    RunOptions options;
    options.client.server = server_.address();
    options.model = "poem";
    options.plan = {
        .requests = 12, .rate = 200.0, .prompt_tokens = 6, .answer_tokens = 4, .spread = 0};
    options.timeout_seconds = 30;
    return options;
  }
  RunResult Load(const RunOptions& options) {
    auto result = RunLoad(options, interrupted_, [](const RunProgress&) {});
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  std::atomic<bool> interrupted_ = false;
  TokenGateway gateway_;
  FakeServer server_{gateway_};
};

TEST_F(RunLoadTest, SendsWithoutWaitingForAnswers) {
  gateway_.first_after = std::chrono::milliseconds(1500);
  const RunResult result = Load(Options());
  ASSERT_EQ(result.requests.size(), 12U);
  const auto first_end = std::min_element(
      result.requests.begin(), result.requests.end(),
      [](const RequestRecord& a, const RequestRecord& b) { return a.end < b.end; });
  EXPECT_LT(result.requests.back().begun, first_end->end);
  const RateReport report = Summarize(result, 200.0, {});
  EXPECT_EQ(report.done, 12U);
  EXPECT_GE(report.ttft.p50, 1500);
  EXPECT_DOUBLE_EQ(report.cached_share, 0.5);
}

TEST_F(RunLoadTest, KeepsTheConcurrencyWhenTheRateIsUnlimited) {
  gateway_.first_after = std::chrono::milliseconds(20);
  RunOptions options = Options();
  options.plan.rate.reset();
  options.concurrency = 3;
  EXPECT_EQ(Summarize(Load(options), std::nullopt, {}).done, 12U);
  EXPECT_LE(gateway_.most_at_once, 3);
  EXPECT_GE(gateway_.most_at_once, 2);
}

TEST_F(RunLoadTest, StopsWhenTooManyAreUnderWay) {
  gateway_.first_after = std::chrono::seconds(20);
  RunOptions options = Options();
  options.max_outstanding = 5;
  const RunResult result = Load(options);
  EXPECT_THAT(std::string(result.stopped.message()), HasSubstr("lower --rate"));
  EXPECT_EQ(result.requests.size(), 5U);
  EXPECT_EQ(Summarize(result, 200.0, {}).unfinished, 5U);
}

TEST_F(RunLoadTest, CountsRefusalsByCode) {
  gateway_.refused_from = 8;
  const RateReport report = Summarize(Load(Options()), 200.0, {});
  EXPECT_EQ(report.done, 8U);
  EXPECT_EQ(report.refused, 4U);
  EXPECT_EQ(report.codes.at("RESOURCE_EXHAUSTED"), 4U);
  EXPECT_EQ(report.first_error, "64 requests wait already");
}

TEST_F(RunLoadTest, CountsAnAnswerThatLacksTokensAsFailed) {
  gateway_.lost = 1;
  const RateReport report = Summarize(Load(Options()), 200.0, {});
  EXPECT_EQ(report.failed, 12U);
  EXPECT_EQ(report.first_error, "3 tokens came instead of 4");
}

TEST_F(RunLoadTest, GivesUpOnARequestAtItsTimeout) {
  gateway_.first_after = std::chrono::seconds(20);
  RunOptions options = Options();
  options.plan.requests = 2;
  options.timeout_seconds = 0.2;
  EXPECT_EQ(Summarize(Load(options), 200.0, {}).codes.at("DEADLINE_EXCEEDED"), 2U);
}

TEST_F(RunLoadTest, CommandWritesTableJsonAndPlots) {
  const TempDir folder;
  const std::string svg = (folder.path() / "serve.svg").string();
  CommandRun run({"bench", "serve", "--server", server_.address(), "--rate", "100,unlimited",
                  "--requests", "5", "--answer-tokens", "3", "--spread", "0", "--json", "-",
                  "--svg", svg});
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  const auto json = nlohmann::json::parse(run.out());
  ASSERT_EQ(json["rates"].size(), 2U);
  EXPECT_EQ(json["rates"][0]["done"], 5);
  EXPECT_EQ(json["rates"][1]["offered_per_second"], "unlimited");
  EXPECT_GT(json["rates"][0]["ttft_ms"]["p50"].get<double>(), 0);
  EXPECT_THAT(ReadTestFile(svg), HasSubstr("Time to first token"));
}

TEST_F(RunLoadTest, CommandPrintsWhatWasMeasuredWhenItIsInterrupted) {
  gateway_.first_after = std::chrono::milliseconds(10);
  CommandRun run({"bench", "serve", "--server", server_.address(), "--rate", "50", "--requests",
                  "100000", "--spread", "0", "--answer-tokens", "2"});
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (gateway_.begun < 10 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait(), "exit code 130");
  EXPECT_THAT(run.out(), HasSubstr("time to first token"));
  EXPECT_THAT(run.out(), HasSubstr("stopped with Ctrl-C"));
}

TEST(BenchServeCommandTest, SaysWhatToDoWithoutAClusterAndForABadRate) {
  CommandRun nobody({"bench", "serve", "--server", "127.0.0.1:1"});
  EXPECT_EQ(nobody.Wait(), "exit code 1");
  EXPECT_THAT(nobody.err(), HasSubstr("yangtuo up"));
  CommandRun bad({"bench", "serve", "--rate", "1,fast"});
  EXPECT_EQ(bad.Wait(), "exit code 2");
  EXPECT_THAT(bad.err(), HasSubstr("unlimited"));
}

}  // namespace
}  // namespace yangtuo::bench_serve
