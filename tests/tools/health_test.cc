#include "tools/health/health.h"

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/admin_server.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

class HealthTest : public ::testing::Test {
 protected:
  void Serve(std::vector<std::string> not_ready) {
    auto server = AdminServer::Start(
        "127.0.0.1:0",
        {.metrics = [] { return ""; }, .not_ready = [not_ready] { return not_ready; }}, {});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    options_.admin = absl::StrCat("127.0.0.1:", server_->port());
  }

  std::unique_ptr<AdminServer> server_;
  HealthOptions options_;
  std::ostringstream out_;
};

TEST_F(HealthTest, AReadyServiceIsZero) {
  Serve({});
  EXPECT_EQ(RunHealth(options_, out_), 0);
  EXPECT_EQ(out_.str(), "ready\n");
}

TEST_F(HealthTest, OneThatIsNotReadyIsOneAndSaysWhatIsMissing) {
  Serve({"yangtuo.v1.GenerationService"});
  EXPECT_EQ(RunHealth(options_, out_), 1);
  EXPECT_THAT(out_.str(), HasSubstr("yangtuo.v1.GenerationService"));
}

TEST_F(HealthTest, ItLivesAllTheSame) {
  Serve({"yangtuo.v1.GenerationService"});
  options_.live = true;
  EXPECT_EQ(RunHealth(options_, out_), 0);
}

TEST_F(HealthTest, NobodyThereIsOneAndNamesTheAddress) {
  Serve({});
  server_.reset();
  EXPECT_EQ(RunHealth(options_, out_), 1);
  EXPECT_THAT(out_.str(), HasSubstr(options_.admin));
}

}  // namespace
}  // namespace yangtuo
