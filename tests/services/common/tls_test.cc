#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/channel.h"
#include "services/common/rpc_server.h"
#include "tests/services/common/held_calls.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

// One authority with a certificate for the server and one for clients, and a second authority, all
// made once for the whole suite by the openssl command.
class TlsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempDir>();
    MakeAuthority("ca");
    MakeAuthority("stranger");
    MakeCertificate("server", "ca", "subjectAltName=DNS:yangtuo.test");
    MakeCertificate("client", "ca", "subjectAltName=DNS:client.test");
    MakeCertificate("intruder", "stranger", "subjectAltName=DNS:client.test");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string Path(const std::string& name) { return folder_->path() / name; }

  static void Shell(const std::string& command) {
    const std::string in_folder =
        absl::StrFormat("cd '%s' && %s 2>openssl.log", folder_->path().string(), command);
    ASSERT_EQ(std::system(in_folder.c_str()), 0) << command;
  }
  static void MakeAuthority(const std::string& name) {
    Shell(
        absl::StrFormat("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                        "-keyout %1$s.key -out %1$s.pem -days 2 -subj /CN=%1$s",
                        name));
  }
  static void MakeCertificate(const std::string& name, const std::string& authority,
                              const std::string& extension) {
    WriteTestFile(Path(name + ".ext"), extension);
    Shell(
        absl::StrFormat("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
                        "%1$s.key -out %1$s.csr -subj /CN=%1$s && openssl x509 -req -in %1$s.csr "
                        "-CA %2$s.pem -CAkey %2$s.key -CAcreateserial -out %1$s.pem -days 2 "
                        "-extfile %1$s.ext",
                        name, authority));
  }

  static ServerTls Server() {
    return {.cert_file = Path("server.pem"), .key_file = Path("server.key")};
  }
  static ServerTls MutualServer() {
    return {.cert_file = Path("server.pem"),
            .key_file = Path("server.key"),
            .client_ca_file = Path("ca.pem")};
  }
  static ClientTls Client() { return {.ca_file = Path("ca.pem"), .server_name = "yangtuo.test"}; }
  static ClientTls ClientNamed(const std::string& name) {
    return {.ca_file = Path("ca.pem"),
            .cert_file = Path(name + ".pem"),
            .key_file = Path(name + ".key"),
            .server_name = "yangtuo.test"};
  }

  // Whether a call succeeds between the two.
  bool Connects(const ServerTls& server_tls, const ClientTls& client_tls) {
    auto server = RpcServer::Start({.tls = server_tls}, {&calls_}, {}, metrics_);
    EXPECT_TRUE(server.ok()) << server.status();
    auto channel = CreateChannel(absl::StrFormat("127.0.0.1:%d", (*server)->port()), client_tls);
    EXPECT_TRUE(channel.ok()) << channel.status();
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    internal::v1::GetStatusResponse response;
    const grpc::Status status =
        internal::v1::InferenceService::NewStub(*channel)->GetStatus(&context, {}, &response);
    if (!status.ok()) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    }
    return status.ok();
  }

  absl::Status StartWith(const ServerTls& tls) {
    return RpcServer::Start({.tls = tls}, {&calls_}, {}, metrics_).status();
  }

  HeldCalls calls_;
  Metrics metrics_;

 private:
  static inline std::unique_ptr<TempDir> folder_;
};

TEST_F(TlsTest, ConnectsWhenTheClientTrustsTheServersAuthority) {
  EXPECT_TRUE(Connects(Server(), Client()));
}

TEST_F(TlsTest, RefusesAServerOfAnotherAuthorityOrName) {
  EXPECT_FALSE(
      Connects(Server(), {.ca_file = Path("stranger.pem"), .server_name = "yangtuo.test"}));
  EXPECT_FALSE(Connects(Server(), {.ca_file = Path("ca.pem"), .server_name = "other.test"}));
}

TEST_F(TlsTest, RefusesAPlaintextClient) { EXPECT_FALSE(Connects(Server(), {})); }

TEST_F(TlsTest, AcceptsAClientCertificateOfTheAuthority) {
  EXPECT_TRUE(Connects(MutualServer(), ClientNamed("client")));
}

TEST_F(TlsTest, RefusesAClientWithoutACertificateOrWithAStrangers) {
  EXPECT_FALSE(Connects(MutualServer(), Client()));
  EXPECT_FALSE(Connects(MutualServer(), ClientNamed("intruder")));
}

TEST_F(TlsTest, NamesTheFileThatIsWrong) {
  WriteTestFile(Path("garbage.pem"), "not a certificate");
  const auto message = [this](const ServerTls& tls) {
    const absl::Status status = StartWith(tls);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };

  EXPECT_THAT(message({.cert_file = Path("none.pem"), .key_file = Path("server.key")}),
              HasSubstr("none.pem"));
  EXPECT_THAT(message({.cert_file = Path("garbage.pem"), .key_file = Path("server.key")}),
              HasSubstr("expected a PEM certificate"));
  EXPECT_THAT(message({.cert_file = Path("server.pem"), .key_file = Path("server.pem")}),
              HasSubstr("private key"));
  EXPECT_THAT(message({.cert_file = Path("server.pem"), .key_file = Path("client.key")}),
              HasSubstr("is not the key of the certificate"));
  EXPECT_THAT(message({.cert_file = Path("server.pem"),
                       .key_file = Path("server.key"),
                       .client_ca_file = Path("garbage.pem")}),
              HasSubstr("garbage.pem"));
  EXPECT_TRUE(absl::IsInvalidArgument(
      CreateChannel("127.0.0.1:1", {.ca_file = Path("garbage.pem")}).status()));
}

}  // namespace
}  // namespace yangtuo
