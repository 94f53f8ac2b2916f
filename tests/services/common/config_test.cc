#include "services/common/config.h"

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A program with one option of every kind; `service` has the shared ones.
struct Values {
  ServiceOptions service;
  int kv_blocks = 64;
  double ratio = 0.5;
  std::string model;
  std::vector<std::string> peers = {"a:1", "b:2"};
  bool verbose = false;
};

struct Outcome {
  ParsedCommandLine parsed;
  Values values;
  std::string out;
  std::string err;
};

class ConfigTest : public ::testing::Test {
 protected:
  ~ConfigTest() override {
    for (const std::string& name : environment_) {
      unsetenv(name.c_str());
    }
  }

  void SetEnvironment(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    environment_.push_back(name);
  }

  // Writes a configuration file and returns the flag for it.
  std::string File(const std::string& text) {
    const auto path = folder_.path() / "config.toml";
    WriteTestFile(path, text);
    return "--config=" + path.string();
  }

  static Outcome Run(std::vector<std::string> arguments,
                     const std::function<absl::Status(const Values&)>& validate = nullptr) {
    Outcome outcome;
    Values& values = outcome.values;
    CLI::App app("test", "prog");
    app.add_option("--kv-blocks", values.kv_blocks)->check(CLI::Range(1, 1000));
    app.add_option("--ratio", values.ratio);
    app.add_option("--model", values.model);
    app.add_option("--peers", values.peers);
    app.add_flag("--verbose", values.verbose);
    AddServiceFlags(app, values.service);
    arguments.insert(arguments.begin(), "prog");
    std::vector<char*> argv;
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    outcome.parsed = ParseCommandLine(app, static_cast<int>(argv.size()), argv.data(), "PROG", [&] {
      return validate ? validate(values) : absl::OkStatus();
    });
    outcome.out = ::testing::internal::GetCapturedStdout();
    outcome.err = ::testing::internal::GetCapturedStderr();
    return outcome;
  }

 private:
  TempDir folder_;
  std::vector<std::string> environment_;
};

TEST_F(ConfigTest, PrefersFlagToEnvironmentToFileToDefault) {
  const std::string file = File("kv-blocks = 2\nratio = 0.2\nmodel = \"file\"\n");
  SetEnvironment("PROG_KV_BLOCKS", "3");
  SetEnvironment("PROG_RATIO", "0.3");

  const Outcome outcome = Run({file, "--kv-blocks", "4"});

  EXPECT_TRUE(outcome.parsed.run) << outcome.err;
  EXPECT_EQ(outcome.values.kv_blocks, 4);
  EXPECT_EQ(outcome.values.ratio, 0.3);
  EXPECT_EQ(outcome.values.model, "file");
  EXPECT_EQ(outcome.values.service.drain_limit, std::chrono::seconds(30));
}

TEST_F(ConfigTest, FindsTheFileThroughTheEnvironment) {
  SetEnvironment("PROG_CONFIG", File("kv-blocks = 7").substr(std::string("--config=").size()));

  EXPECT_EQ(Run({}).values.kv_blocks, 7);
}

TEST_F(ConfigTest, ReadsListsFromFileEnvironmentAndRepeatedFlags) {
  const std::string file = File("peers = [ \"x:1\", # first\n  \"y,2\",\n]\n");

  EXPECT_THAT(Run({}).values.peers, ElementsAre("a:1", "b:2"));
  EXPECT_THAT(Run({file}).values.peers, ElementsAre("x:1", "y,2"));
  EXPECT_THAT(Run({file, "--peers", "p", "--peers", "q"}).values.peers, ElementsAre("p", "q"));
  EXPECT_THAT(Run({File("peers = []")}).values.peers, IsEmpty());
  SetEnvironment("PROG_PEERS", "e,f");
  EXPECT_THAT(Run({file}).values.peers, ElementsAre("e", "f"));
  SetEnvironment("PROG_PEERS", "[\"e,1\", \"f\"]");
  EXPECT_THAT(Run({file}).values.peers, ElementsAre("e,1", "f"));
}

TEST_F(ConfigTest, ReadsSwitchesAndChoicesFromEverySource) {
  const std::string file = File("reflection = false\nverbose = true\nlog-format = \"json\"\n");

  EXPECT_FALSE(Run({file}).values.service.reflection);
  EXPECT_TRUE(Run({file}).values.verbose);
  EXPECT_EQ(Run({file}).values.service.log_format, LogFormat::kJson);
  EXPECT_TRUE(Run({file, "--reflection"}).values.service.reflection);
  EXPECT_FALSE(Run({"--no-reflection"}).values.service.reflection);
  SetEnvironment("PROG_REFLECTION", "true");
  SetEnvironment("PROG_LOG_LEVEL", "error");
  EXPECT_TRUE(Run({file}).values.service.reflection);
  EXPECT_EQ(Run({file}).values.service.log_level, LogLevel::kError);
}

TEST_F(ConfigTest, UnderstandsTomlStringsNumbersAndComments) {
  const Outcome outcome =
      Run({File("# comment\n\nmodel = \"a#b = \\\"c\\\" \\u7f8a\" # end\nkv-blocks = 1_000\nratio "
                "= 1e-3\r\n")});

  EXPECT_EQ(outcome.values.model, "a#b = \"c\" 羊") << outcome.err;
  EXPECT_EQ(outcome.values.kv_blocks, 1000);
  EXPECT_EQ(outcome.values.ratio, 1e-3);
  EXPECT_EQ(Run({File("model = 'C:\\raw'")}).values.model, "C:\\raw");
}

TEST_F(ConfigTest, RefusesAnUnknownKeyAndNamesTheNearest) {
  const Outcome outcome = Run({File("\nkv-block = 3\n")});

  EXPECT_FALSE(outcome.parsed.run);
  EXPECT_EQ(outcome.parsed.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("config.toml:2: unknown key \"kv-block\""));
  EXPECT_THAT(outcome.err, HasSubstr("did you mean \"kv-blocks\"?"));
}

TEST_F(ConfigTest, RefusesAnUnknownFlagAndNamesTheNearest) {
  const Outcome outcome = Run({"--kv-blok=3"});

  EXPECT_EQ(outcome.parsed.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("Did you mean --kv-blocks?"));
}

TEST_F(ConfigTest, RefusesBadValuesOfEverySourceAndNamesIt) {
  EXPECT_THAT(Run({"--kv-blocks", "0"}).err, HasSubstr("--kv-blocks"));
  const Outcome file = Run({File("kv-blocks = \"many\"")});
  EXPECT_EQ(file.parsed.exit_code, 2);
  EXPECT_THAT(file.err, HasSubstr("config.toml:1: kv-blocks = many"));
  EXPECT_THAT(Run({File("kv-blocks = [1, 2]")}).err, HasSubstr("takes one value"));
  EXPECT_THAT(Run({File("log-level = \"loud\"")}).err, HasSubstr("loud"));
  SetEnvironment("PROG_KV_BLOCKS", "5000");
  const Outcome environment = Run({});
  EXPECT_EQ(environment.parsed.exit_code, 2);
  EXPECT_THAT(environment.err, HasSubstr("environment PROG_KV_BLOCKS: kv-blocks = 5000"));
}

TEST_F(ConfigTest, RefusesWhatIsNotTomlWithFileAndLine) {
  const std::map<std::string, std::string> broken = {
      {"kv-blocks 3", "expected \"=\""},       {"[server]\nx = 1", "no tables"},
      {"model = \"open", "closing quote"},     {"model = bare", "expected a value"},
      {"peers = [\"a\" \"b\"]", "\",\""},      {"peers = [\"a\"", "expected"},
      {"ratio = 1\nratio = 2", "second time"}, {"model = \"\\q\"", "escape"},
      {"ratio = 1 2", "end of the line"},      {"= 3", "a key"}};
  for (const auto& [text, words] : broken) {
    const Outcome outcome = Run({File(text)});
    EXPECT_EQ(outcome.parsed.exit_code, 2) << text;
    EXPECT_THAT(outcome.err, HasSubstr(words)) << text;
    EXPECT_THAT(outcome.err, HasSubstr("config.toml:")) << text;
  }
}

TEST_F(ConfigTest, RefusesAMissingFile) {
  const Outcome outcome = Run({"--config", "/nowhere/x.toml"});

  EXPECT_EQ(outcome.parsed.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("cannot read the configuration file /nowhere/x.toml"));
}

TEST_F(ConfigTest, PrintsEveryValueWithItsSource) {
  SetEnvironment("PROG_RATIO", "0.25");

  const Outcome outcome = Run({File("model = \"m\""), "--kv-blocks=9", "--print-config"});

  EXPECT_FALSE(outcome.parsed.run);
  EXPECT_EQ(outcome.parsed.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("kv-blocks = 9  # flag\n"));
  EXPECT_THAT(outcome.out, HasSubstr("ratio = 0.25  # environment PROG_RATIO\n"));
  EXPECT_THAT(outcome.out, HasSubstr("model = \"m\"  # file "));
  EXPECT_THAT(outcome.out, HasSubstr("peers = [\"a:1\", \"b:2\"]  # default\n"));
  EXPECT_THAT(outcome.out, HasSubstr("reflection = true  # default\n"));
  EXPECT_THAT(outcome.out, HasSubstr("verbose = false  # default\n"));
  EXPECT_THAT(outcome.out, HasSubstr("drain-seconds = 30  # default\n"));
  EXPECT_THAT(outcome.out, HasSubstr("log-level = \"info\"  # default\n"));
}

TEST_F(ConfigTest, ReadsItsOwnPrintedConfigurationBack) {
  const Outcome printed = Run({"--model", "a \"b\" # 羊\\", "--peers", "x,y", "--peers", "z",
                               "--kv-blocks", "5", "--no-reflection", "--verbose",
                               "--log-format=json", "--drain-seconds=1.5", "--print-config"});

  const Outcome read = Run({File(printed.out)});

  ASSERT_TRUE(read.parsed.run) << read.err << printed.out;
  EXPECT_EQ(read.values.model, "a \"b\" # 羊\\");
  EXPECT_THAT(read.values.peers, ElementsAre("x,y", "z"));
  EXPECT_EQ(read.values.kv_blocks, 5);
  EXPECT_EQ(read.values.ratio, 0.5);
  EXPECT_TRUE(read.values.verbose);
  EXPECT_FALSE(read.values.service.reflection);
  EXPECT_EQ(read.values.service.log_format, LogFormat::kJson);
  EXPECT_EQ(read.values.service.drain_limit, std::chrono::milliseconds(1500));
}

TEST_F(ConfigTest, ChecksValuesAgainstEachOtherAndTheDisk) {
  const auto refuse = [](const Values&) { return absl::InvalidArgumentError("no such model"); };

  const Outcome refused = Run({"--check-config"}, refuse);
  const Outcome accepted = Run({"--check-config"});

  EXPECT_EQ(refused.parsed.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("prog: no such model"));
  EXPECT_FALSE(accepted.parsed.run);
  EXPECT_EQ(accepted.parsed.exit_code, 0);
  EXPECT_THAT(accepted.out, HasSubstr("valid"));
  EXPECT_EQ(Run({}, refuse).parsed.exit_code, 2);
}

TEST_F(ConfigTest, ShowsHelpAndVersionEvenBesideABrokenFile) {
  const std::string broken = File("nonsense");

  const Outcome help = Run({broken, "--help"});
  const Outcome version = Run({broken, "--version"});

  EXPECT_EQ(help.parsed.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("--kv-blocks"));
  EXPECT_THAT(help.out, HasSubstr("PROG_SOME_FLAG"));
  EXPECT_EQ(version.parsed.exit_code, 0);
  EXPECT_THAT(version.out, HasSubstr("prog 0."));
}

TEST(CheckServiceOptionsTest, RefusesAddressesAndTlsFilesThatCannotWork) {
  EXPECT_TRUE(CheckServiceOptions({}).ok());
  const auto message = [](const ServiceOptions& options) {
    const absl::Status status = CheckServiceOptions(options);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    return std::string(status.message());
  };
  EXPECT_THAT(message({.listen = "50051"}), HasSubstr("found \"50051\""));
  EXPECT_THAT(message({.listen = "::1:50051"}), HasSubstr("[::1]:50051"));
  EXPECT_THAT(message({.admin_listen = "h:70000"}), HasSubstr("h:70000"));
  EXPECT_THAT(message({.tls = {.cert_file = "/no.pem"}}), HasSubstr("belong together"));
  EXPECT_THAT(message({.tls = {.cert_file = "/no.pem", .key_file = "/no.key"}}),
              HasSubstr("/no.pem"));
  EXPECT_THAT(message({.tls = {.client_ca_file = "/ca.pem"}}), HasSubstr("plaintext"));
  EXPECT_THAT(message({.peer_tls = {.cert_file = "/c.pem"}}), HasSubstr("plaintext"));
}

}  // namespace
}  // namespace yangtuo
