// The `yangtuo` program as a user runs it, with a stand-in for the gateway.

#include <chrono>
#include <signal.h>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/common/status.h"
#include "tests/testing/fake_server.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using testing::CommandRun;
using testing::FakeGateway;
using testing::FakeServer;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// Nothing listens on port 1 of loopback.
constexpr char kNobody[] = "127.0.0.1:1";

class CommandsTest : public ::testing::Test {
 protected:
  FakeGateway gateway_;
  FakeServer server_{gateway_};
};

TEST_F(CommandsTest, GenerateStreamsTheAnswerOfAChatToStandardOutput) {
  CommandRun run({"generate", "--server", server_.address(), "写诗"});
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(run.out(), "床前明月光\n");
  EXPECT_EQ(run.err(), "");
  ASSERT_EQ(gateway_.requests().size(), 1U);
  const v1::GenerateRequest request = gateway_.requests()[0];
  EXPECT_EQ(request.model(), "poem");
  EXPECT_EQ(request.chat().messages(0).content(), "写诗");
  EXPECT_FLOAT_EQ(request.sampling().temperature(), 0.2F);
  EXPECT_EQ(request.sampling().top_k(), 40U);
  EXPECT_FLOAT_EQ(request.sampling().repetition_penalty(), 1.1F);
  EXPECT_FALSE(request.sampling().has_seed());
  EXPECT_EQ(request.stop().max_new_tokens(), 512U);
}

TEST_F(CommandsTest, GenerateSendsARawPromptFromStandardInput) {
  CommandRun run({"generate", "--server", server_.address(), "--raw", "--temperature", "0",
                  "--seed", "3", "--stop", "。", "--n", "2", "-"},
                 "床前\n");
  EXPECT_EQ(run.Wait(), "exit code 0");
  ASSERT_EQ(gateway_.requests().size(), 1U);
  const v1::GenerateRequest request = gateway_.requests()[0];
  EXPECT_EQ(request.text(), "床前");
  EXPECT_EQ(request.sampling().temperature(), 0.0F);
  EXPECT_EQ(request.sampling().seed(), 3U);
  EXPECT_EQ(request.stop().stop_strings(0), "。");
  EXPECT_EQ(request.n(), 2U);
}

TEST_F(CommandsTest, GenerateTellsTokensAndSpeedOnStandardError) {
  CommandRun run({"generate", "--server", server_.address(), "--stats", "hi"});
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(run.out(), "床前明月光\n");
  EXPECT_THAT(run.err(), AllOf(StartsWith("3 prompt + 2 answer tokens"), HasSubstr("seed 7")));
}

TEST_F(CommandsTest, GenerateWritesOneLineOfJsonAnEvent) {
  CommandRun run({"generate", "--server", server_.address(), "--json", "hi"});
  EXPECT_EQ(run.Wait(), "exit code 0");
  std::istringstream lines(run.out());
  std::vector<nlohmann::json> events;
  for (std::string line; std::getline(lines, line);) {
    events.push_back(nlohmann::json::parse(line));
  }
  ASSERT_THAT(events, SizeIs(4));
  EXPECT_EQ(events[0]["started"]["prompt_tokens"], 3);
  EXPECT_EQ(events[2]["delta"]["text"], "明月光");
  EXPECT_EQ(events[3]["finished"]["usage"]["completion_tokens"], 2);
}

TEST_F(CommandsTest, GenerateCancelsTheCallOnCtrlC) {
  gateway_.never_ends = true;
  CommandRun run({"generate", "--server", server_.address(), "hi"});
  ASSERT_TRUE(run.WaitForOutput("明月光"));
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait(), "exit code 130");
  EXPECT_EQ(run.out(), "床前明月光\n");
  EXPECT_EQ(run.err(), "");
  server_.Kill();  // waits for the handler
  EXPECT_EQ(gateway_.cancelled(), 1);
}

TEST_F(CommandsTest, GenerateKeepsWhatCameBeforeAnErrorAndSaysWhatToDo) {
  gateway_.error = WithRetryAfter(
      WithReason(absl::ResourceExhaustedError("256 requests are in flight"), "OVERLOADED"),
      std::chrono::seconds(2));
  CommandRun run({"generate", "--server", server_.address(), "hi"});
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_EQ(run.out(), "床前明月光\n");
  EXPECT_EQ(run.err(),
            "yangtuo generate: the cluster is full: 256 requests are in flight (retry in 2 s)\n");
}

TEST_F(CommandsTest, GenerateRefusesAPromptThatIsNotUtf8) {
  CommandRun run({"generate", "--server", server_.address(), "ab\xB4\xBA"});
  EXPECT_EQ(run.Wait(), "exit code 2");
  EXPECT_THAT(run.err(), AllOf(HasSubstr("byte 2 is 0xb4"), HasSubstr("iconv")));
}

TEST_F(CommandsTest, GenerateNamesTheModelsThatThereAre) {
  gateway_.AddModel("other", "", 64);
  CommandRun unnamed({"generate", "--server", server_.address(), "hi"});
  EXPECT_EQ(unnamed.Wait(), "exit code 1");
  EXPECT_THAT(unnamed.err(), HasSubstr("choose one with --model (poem, other)"));
  CommandRun unknown({"generate", "--server", server_.address(), "--model", "x", "hi"});
  EXPECT_EQ(unknown.Wait(), "exit code 1");
  EXPECT_THAT(unknown.err(), HasSubstr("no model is named \"x\" here: there is poem, other"));
}

TEST_F(CommandsTest, GenerateAsksAModelWithoutTemplateForACompletion) {
  gateway_.AddModel("other", "", 64);
  CommandRun run({"generate", "--server", server_.address(), "--model", "other", "hi"});
  EXPECT_EQ(run.Wait(), "exit code 0");
  ASSERT_EQ(gateway_.requests().size(), 1U);
  EXPECT_EQ(gateway_.requests()[0].text(), "hi");
  EXPECT_EQ(gateway_.requests()[0].stop().max_new_tokens(), 64U);
}

TEST(CommandsWithoutClusterTest, SayThatNoGatewayAnswers) {
  const std::vector<std::vector<std::string>> commands = {
      {"generate", "hi"}, {"chat"}, {"models"}, {"status"}};
  for (std::vector<std::string> command : commands) {
    command.insert(command.begin() + 1, {"--server", kNobody});
    CommandRun run(command);
    EXPECT_EQ(run.Wait(), "exit code 1") << command[0];
    EXPECT_EQ(run.err(),
              absl::StrFormat("yangtuo %s: no gateway answers at %s: start a cluster with `yangtuo "
                              "up`, or name another one with --server (or YANGTUO_SERVER)\n",
                              command[0], kNobody));
  }
}

TEST(CommandsWithoutClusterTest, EndWithCode2OnWrongUsage) {
  const std::vector<std::vector<std::string>> commands = {{},
                                                          {"genrate", "hi"},
                                                          {"generate", "--temperature", "-1", "hi"},
                                                          {"generate", "--raw", "--chat", "hi"},
                                                          {"up", "--workers", "0"},
                                                          {"up", "--listen", "50051"},
                                                          {"chat", "extra"}};
  for (const std::vector<std::string>& command : commands) {
    CommandRun run(command);
    EXPECT_EQ(run.Wait(), "exit code 2") << ::testing::PrintToString(command);
    EXPECT_THAT(run.err(), HasSubstr("yangtuo")) << ::testing::PrintToString(command);
    EXPECT_EQ(run.out(), "");
  }
}

TEST(CommandsWithoutClusterTest, ShowExamplesInEveryHelp) {
  const std::vector<std::vector<std::string>> commands = {
      {"up"},   {"generate"},    {"chat"},         {"models"},        {"status"},
      {"keys"}, {"keys", "add"}, {"keys", "list"}, {"keys", "remove"}};
  for (std::vector<std::string> command : commands) {
    const std::string words = absl::StrJoin(command, " ");
    command.emplace_back("--help");
    CommandRun run(command);
    EXPECT_EQ(run.Wait(), "exit code 0") << words;
    EXPECT_THAT(run.out(), HasSubstr(absl::StrFormat("Examples:\n  yangtuo %s", words)));
  }
}

TEST(CommandsWithoutClusterTest, SayThatTheFileOfAConstraintIsMissing) {
  for (const char* flag : {"--json-schema", "--grammar"}) {
    CommandRun run({"generate", "--server", kNobody, flag, "no/such.file", "hi"});
    EXPECT_EQ(run.Wait(), "exit code 2");
    EXPECT_THAT(run.err(), AllOf(HasSubstr(flag), HasSubstr("there is no file no/such.file")));
  }
}

TEST_F(CommandsTest, GenerateTakesAConstraintAsText) {
  const std::vector<std::vector<std::string>> constraints = {
      {"--json-schema", "\n{\"type\": \"object\"}"},
      {"--json-schema", "true"},
      {"--grammar", "root ::= \"a\""}};
  for (const std::vector<std::string>& constraint : constraints) {
    CommandRun run({"generate", "--server", server_.address(), constraint[0], constraint[1], "hi"});
    EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
    const v1::Constraint sent = gateway_.requests().back().sampling().constraint();
    EXPECT_EQ(sent.has_grammar() ? sent.grammar() : sent.json_schema(), constraint[1]);
  }
}

TEST_F(CommandsTest, ChatInAPipeAnswersEveryLineWithWhatWasSaidBefore) {
  CommandRun run({"chat", "--server", server_.address(), "--system", "诗人"}, "one\n\ntwo\n");
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(run.out(), "床前明月光\n床前明月光\n");
  EXPECT_EQ(run.err(), "");
  ASSERT_EQ(gateway_.requests().size(), 2U);
  const v1::ChatPrompt second = gateway_.requests()[1].chat();
  ASSERT_EQ(second.messages_size(), 4);
  EXPECT_EQ(second.messages(0).role(), "system");
  EXPECT_EQ(second.messages(2).role(), "assistant");
  EXPECT_EQ(second.messages(2).content(), "床前明月光");
  EXPECT_EQ(second.messages(3).content(), "two");
}

TEST_F(CommandsTest, ChatDropsTurnsThatNoLongerFitAndSaysSo) {
  // 512 tokens of context, 256 of them for the answer; a byte is a token here.
  const std::string line(200, 'x');
  CommandRun run({"chat", "--server", server_.address()}, line + "\n" + line + "\n");
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(run.err(), "(1 earlier turn no longer fits)\n");
  ASSERT_EQ(gateway_.requests().size(), 2U);
  EXPECT_EQ(gateway_.requests()[1].chat().messages_size(), 1);
}

TEST_F(CommandsTest, ChatObeysItsCommands) {
  CommandRun run({"chat", "--server", server_.address()},
                 "one\n/clear\n/system 诗人\ntwo\n//three\n/nonsense\n/exit\nfour\n");
  EXPECT_EQ(run.Wait(), "exit code 0");
  ASSERT_EQ(gateway_.requests().size(), 3U);
  const v1::ChatPrompt second = gateway_.requests()[1].chat();
  ASSERT_EQ(second.messages_size(), 2);
  EXPECT_EQ(second.messages(0).content(), "诗人");
  EXPECT_EQ(gateway_.requests()[2].chat().messages(3).content(), "/three");
  EXPECT_THAT(run.err(), HasSubstr("there is no command /nonsense"));
}

TEST_F(CommandsTest, ChatForgetsAQuestionWhoseAnswerFailed) {
  gateway_.error = absl::InternalError("bad luck");
  CommandRun run({"chat", "--server", server_.address()}, "one\ntwo\n");
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("the cluster failed: bad luck"));
  ASSERT_EQ(gateway_.requests().size(), 2U);
  EXPECT_EQ(gateway_.requests()[1].chat().messages_size(), 1);
}

TEST_F(CommandsTest, ChatWithACompletionModelSaysWhatToDoInstead) {
  gateway_.models.Clear();
  gateway_.AddModel("llama", "", 512);
  CommandRun run({"chat", "--server", server_.address()}, "hi\n");
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("use `yangtuo generate --raw PROMPT`"));
}

TEST_F(CommandsTest, ModelsPrintsATable) {
  gateway_.AddModel("completer", "", 2048);
  CommandRun run({"models", "--server", server_.address()});
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(run.out(),
            "MODEL      CONTEXT  VOCABULARY  TEMPLATE  GROUPS  WEIGHTS  DIGEST\n"
            "poem           512        6001  alpaca         1  bf16     0123456789ab\n"
            "completer     2048        6001  -              1  bf16     0123456789ab\n");
}

TEST_F(CommandsTest, ModelsPrintsJson) {
  CommandRun run({"models", "--server", server_.address(), "--json"});
  EXPECT_EQ(run.Wait(), "exit code 0");
  EXPECT_EQ(nlohmann::json::parse(run.out())["models"][0]["context_tokens"], 512);
}

TEST(UpCommandTest, ExplainsAModelThatIsMissing) {
  CommandRun run({"up", "no/such/model"});
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("there is no model folder no/such/model"));
}

}  // namespace
}  // namespace yangtuo
