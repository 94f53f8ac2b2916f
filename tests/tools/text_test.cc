#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"
#include "tools/common/error_text.h"
#include "tools/common/prometheus_text.h"
#include "tools/common/table.h"
#include "tools/common/text_width.h"
#include "tools/generate/answer_printer.h"
#include "tools/generate/generate.h"
#include "tools/status/snapshot.h"
#include "tools/status/status.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TextWidthTest, ChineseTakesTwoColumnsAndCombiningMarksNone) {
  EXPECT_EQ(TextWidth("abc"), 3);
  EXPECT_EQ(TextWidth("春望。"), 6);
  EXPECT_EQ(TextWidth("e\u0301"), 1);
  EXPECT_EQ(TextWidth("a\xFFz"), 3);
}

TEST(TextWidthTest, CutsBetweenCharactersAndMarksTheCut) {
  EXPECT_EQ(CutToWidth("春望诗", 6), "春望诗");
  EXPECT_EQ(CutToWidth("春望诗", 5), "春望…");
  EXPECT_EQ(CutToWidth("春望诗", 4), "春…");
  EXPECT_EQ(CutToWidth("春望诗", 0), "");
}

TEST(TextWidthTest, FindsTheFirstByteThatIsNotUtf8) {
  EXPECT_EQ(FindInvalidUtf8("春望"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("春\xE6\x9C"), 3U);
  EXPECT_EQ(FindInvalidUtf8("\xC0\xAF"), 0U);
}

TEST(FormatTableTest, AlignsColumnsByWhatTheyShow) {
  const Table table{.columns = {{"NAME"}, {"N", Align::kRight}, {"X"}},
                    .rows = {{"春望", "1", "a"}, {"b", "100", ""}}};
  EXPECT_EQ(FormatTable(table, 0),
            "NAME    N  X\n"
            "春望    1  a\n"
            "b     100\n");
}

TEST(FormatTableTest, NarrowTerminalsShortenTheWidestTextFirst) {
  const Table table{.columns = {{"A"}, {"B"}, {"N", Align::kRight}},
                    .rows = {{"aaaaaaaaaaaaaaaaaaaa", "bbb", "123456"}}};
  const std::string text = FormatTable(table, 24);
  EXPECT_EQ(text, "A            B         N\naaaaaaaaaa…  bbb  123456\n");
  EXPECT_EQ(FormatTable(table, 10), "A        …\naaaaaaa… …\n");
}

TEST(ParsePrometheusTextTest, ReadsNamesLabelsAndValues) {
  const auto samples = ParsePrometheusText(
      "# HELP x y\n# TYPE x counter\nx{a=\"1\",b=\"q\\\"\\n}\"} 2.5\nx 1e3\n\nbroken{a=\"1\nz NaN "
      "17\n");
  ASSERT_EQ(samples.size(), 3U);
  EXPECT_EQ(samples[0].labels.at("b"), "q\"\n}");
  EXPECT_EQ(SumOf(samples, "x"), 1002.5);
  EXPECT_EQ(SumOf(samples, "y"), std::nullopt);
}

TEST(DescribeErrorTest, SaysWhatToDoInsteadOfWhatGrpcSaid) {
  const std::string refused =
      DescribeError(absl::UnavailableError(
                        "failed to connect to all addresses; last error: UNKNOWN: "
                        "ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused"),
                    "127.0.0.1:1");
  EXPECT_THAT(refused, AllOf(HasSubstr("`yangtuo up`"), Not(HasSubstr("ipv4:"))));
  EXPECT_THAT(
      DescribeError(WithReason(absl::UnavailableError("no worker is ready"), "NO_WORKER"), "s"),
      HasSubstr("the cluster cannot answer now: no worker is ready"));
  EXPECT_THAT(DescribeError(absl::UnavailableError("Socket closed"), "s"), HasSubstr("--tls-ca"));
  EXPECT_THAT(DescribeError(absl::DeadlineExceededError("Deadline Exceeded"), "s"),
              HasSubstr("--timeout"));
  EXPECT_THAT(DescribeError(absl::UnimplementedError(""), "s"), HasSubstr("address of a gateway"));
  EXPECT_EQ(DescribeError(absl::NotFoundError("no such model"), "s"), "no such model");
}

v1::GenerateResponse Delta(std::uint32_t choice, const std::string& text) {
  v1::GenerateResponse response;
  response.mutable_delta()->set_choice(choice);
  response.mutable_delta()->set_text(text);
  return response;
}

TEST(AnswerPrinterTest, PrintsTheFirstChoiceAsItComesAndTheOthersBehindIt) {
  std::string out;
  AnswerPrinter printer([&](std::string_view text) { out += text; });
  printer.OnEvent(Delta(1, "b"));
  printer.OnEvent(Delta(0, "a"));
  EXPECT_EQ(out, "a");
  printer.OnEvent(Delta(1, "b\n"));
  printer.Finish();
  EXPECT_EQ(out, "a\n\n--- choice 2\nbb\n");
  EXPECT_EQ(printer.text(), "a");
}

TEST(AnswerPrinterTest, ListsLogProbabilitiesWithTokensThatAreNoTextAsEscapes) {
  std::string out;
  AnswerPrinter printer([&](std::string_view text) { out += text; });
  v1::GenerateResponse response = Delta(0, "春");
  v1::PositionLogprobs& position = *response.mutable_delta()->add_logprobs();
  position.mutable_chosen()->set_token("\xE6");
  position.mutable_chosen()->set_token_id(233);
  position.mutable_chosen()->set_logprob(-0.5F);
  v1::TokenLogprob& top = *position.add_top();
  top.set_token("春");
  top.set_logprob(-1.0F);
  printer.OnEvent(response);
  printer.Finish();
  EXPECT_THAT(out, HasSubstr("  -0.5000     233  \"\\xe6\"   of: \"春\" -1.0000\n"));
}

TEST(DescribeStatsTest, CountsTheFirstTokenAsPartOfThePrompt) {
  v1::Started started;
  started.set_seed(17);
  v1::Finished finished;
  finished.mutable_usage()->set_prompt_tokens(5);
  finished.mutable_usage()->set_completion_tokens(21);
  finished.mutable_timings()->mutable_time_to_first_token()->set_nanos(500'000'000);
  finished.mutable_timings()->mutable_total()->set_seconds(2);
  finished.mutable_timings()->mutable_total()->set_nanos(500'000'000);
  finished.add_choices()->set_finish_reason(v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(DescribeStats(started, finished, std::chrono::milliseconds(2600)),
            "5 prompt + 21 answer tokens, first after 0.5 s, 10 tokens/s, 2.6 s in all; cut at the "
            "length limit; seed 17");
}

TEST(MakeGenerateRequestTest, RefusesOptionsThatExcludeEachOtherForTheModel) {
  v1::Model completer;
  completer.set_name("llama");
  GenerateOptions options;
  options.kind = PromptKind::kChat;
  EXPECT_EQ(MakeGenerateRequest(options, "x", completer).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.kind = PromptKind::kAutomatic;
  options.system = "a poet";
  EXPECT_EQ(MakeGenerateRequest(options, "x", completer).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.chat_template = "alpaca";
  const auto request = MakeGenerateRequest(options, "x", completer);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->chat().template_(), "alpaca");
  options.echo = true;
  EXPECT_FALSE(MakeGenerateRequest(options, "x", completer).ok());
}

TEST(FormatSnapshotTest, ShowsLoadAndTokensASecondBetweenTwoLooks) {
  Snapshot before;
  before.server = "s:1";
  before.serving = true;
  before.services.emplace_back();
  before.services[0].name = "worker 0";
  before.services[0].pid = 1;
  before.services[0].admin = "a:1";
  before.loads = {ParseServiceLoad(200, "", "yangtuo_generation_tokens_total 100\n")};
  Snapshot now = before;
  now.loads = {ParseServiceLoad(503, "loading weights\n",
                                "yangtuo_requests_running 3\nyangtuo_requests_waiting 1\n"
                                "yangtuo_kv_cache_usage_ratio 0.25\n"
                                "yangtuo_generation_tokens_total 150\n")};
  now.loads[0].at = before.loads[0].at + std::chrono::seconds(2);
  EXPECT_EQ(FormatSnapshot(before, now, 0),
            "gateway s:1: serving\n"
            "\n"
            "SERVICE   STATE      RUNNING  WAITING  KV USED  TOKENS/S  RESTARTS  ADMIN\n"
            "worker 0  not ready        3        1      25%      25.0         0  a:1\n"
            "\n"
            "worker 0: loading weights\n");
}

ClusterState ClusterAt(const std::string& gateway) {
  ClusterState state;
  state.gateway = gateway;
  return state;
}

TEST(ChooseTargetTest, TakesTheOnlyClusterUnlessAServerIsNamed) {
  const std::vector<ClusterState> one = {ClusterAt("127.0.0.1:7")};
  EXPECT_EQ(ChooseTarget({}, one)->server, "127.0.0.1:7");
  StatusOptions named;
  named.server_given = true;
  named.client.server = "other:1";
  named.admin = {"other:2"};
  const auto target = ChooseTarget(named, one);
  EXPECT_EQ(target->server, "other:1");
  ASSERT_EQ(target->services.size(), 1U);
  EXPECT_EQ(target->services[0].admin, "other:2");
}

TEST(ChooseTargetTest, AsksWhichOfSeveralClustersIsMeant) {
  const std::vector<ClusterState> two = {ClusterAt("127.0.0.1:7"), ClusterAt("127.0.0.1:8")};
  const auto target = ChooseTarget({}, two);
  EXPECT_EQ(target.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(target.status().message()), HasSubstr("--server 127.0.0.1:8"));
  StatusOptions named;
  named.server_given = true;
  named.client.server = "127.0.0.1:8";
  EXPECT_EQ(ChooseTarget(named, two)->server, "127.0.0.1:8");
}

}  // namespace
}  // namespace yangtuo
