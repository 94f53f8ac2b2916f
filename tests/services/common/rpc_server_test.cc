#include "services/common/rpc_server.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "services/common/channel.h"
#include "services/common/port_file.h"
#include "services/common/request_context.h"
#include "tests/services/common/held_calls.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Lt;
using HealthStub = grpc::health::v1::Health::Stub;
using Health = grpc::health::v1::HealthCheckResponse;
using InferenceStub = internal::v1::InferenceService::Stub;

constexpr auto kTestLimit = std::chrono::seconds(20);

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + kTestLimit);
}

// A stream of the client's; the deadline keeps a broken test from hanging.
template <typename Request, typename Response, typename Stub>
class Stream {
 public:
  using Open = std::unique_ptr<grpc::ClientReader<Response>> (Stub::*)(grpc::ClientContext*,
                                                                       const Request&);
  Stream(Stub& stub, Open open, const Request& request) {
    SetDeadline(context_);
    reader_ = (stub.*open)(&context_, request);
  }
  bool Read(Response& response) { return reader_->Read(&response); }
  grpc::Status Finish() {
    Response ignored;
    while (reader_->Read(&ignored)) {
    }
    return reader_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<Response>> reader_;
};

using GenerateStream =
    Stream<internal::v1::GenerateRequest, internal::v1::GenerateResponse, InferenceStub>;
using WatchStream =
    Stream<internal::v1::WatchStatusRequest, internal::v1::WatchStatusResponse, InferenceStub>;

class HealthWatch {
 public:
  HealthWatch(HealthStub& stub, const std::string& name)
      : stream_(stub, &HealthStub::Watch, Request(name)) {}
  // The next status that is sent; UNKNOWN when the stream ended.
  Health::ServingStatus Next() {
    Health response;
    return stream_.Read(response) ? response.status() : Health::UNKNOWN;
  }

 private:
  static grpc::health::v1::HealthCheckRequest Request(const std::string& name) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    return request;
  }
  Stream<grpc::health::v1::HealthCheckRequest, Health, HealthStub> stream_;
};

class RpcServerTest : public ::testing::Test {
 protected:
  void StartServer(const ServiceOptions& options = {}) {
    auto started = RpcServer::Start(options, {&calls_}, {"model", "other"}, metrics_);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    auto channel = CreateChannel(absl::StrFormat("127.0.0.1:%d", server_->port()), {});
    ASSERT_TRUE(channel.ok());
    channel_ = *channel;
    health_ = grpc::health::v1::Health::NewStub(channel_);
    inference_ = internal::v1::InferenceService::NewStub(channel_);
  }

  Health::ServingStatus Check(const std::string& name) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    Health response;
    return health_->Check(&context, request, &response).ok() ? response.status() : Health::UNKNOWN;
  }

  std::unique_ptr<GenerateStream> Generate() {
    return std::make_unique<GenerateStream>(*inference_, &InferenceStub::Generate,
                                            internal::v1::GenerateRequest());
  }

  Metrics metrics_;
  HeldCalls calls_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<HealthStub> health_;
  std::unique_ptr<InferenceStub> inference_;
};

TEST_F(RpcServerTest, AnswersHealthChecksForEveryNameByItself) {
  StartServer();
  EXPECT_EQ(Check(""), Health::SERVING);
  EXPECT_EQ(Check("model"), Health::NOT_SERVING);
  EXPECT_EQ(Check("nobody"), Health::UNKNOWN);

  server_->SetServing("model", true);

  EXPECT_EQ(Check("model"), Health::SERVING);
  EXPECT_EQ(Check("other"), Health::NOT_SERVING);
  server_->SetServing("model", false);
  EXPECT_EQ(Check("model"), Health::NOT_SERVING);
}

TEST_F(RpcServerTest, TellsHealthWatchersOfEveryChange) {
  StartServer();
  HealthWatch watch(*health_, "model");
  EXPECT_EQ(watch.Next(), Health::NOT_SERVING);

  server_->SetServing("model", true);
  EXPECT_EQ(watch.Next(), Health::SERVING);

  server_->SetServing("model", false);
  EXPECT_EQ(watch.Next(), Health::NOT_SERVING);
}

TEST_F(RpcServerTest, LetsARunningCallFinishWhileNamedServicesStopServingAndTheProcessIsAlive) {
  StartServer();
  server_->SetServing("model", true);
  HealthWatch model(*health_, "model");
  HealthWatch process(*health_, "");
  EXPECT_EQ(model.Next(), Health::SERVING);
  EXPECT_EQ(process.Next(), Health::SERVING);
  const auto stream = Generate();
  calls_.AwaitRunning(1);
  const TimePoint begin = SteadyClock().Now();

  std::thread drain([this] { server_->Drain(kTestLimit); });
  EXPECT_EQ(model.Next(), Health::NOT_SERVING);
  server_->SetServing("model", true);
  calls_.FinishAll();

  EXPECT_TRUE(stream->Finish().ok());
  drain.join();
  EXPECT_LT(SteadyClock().Now() - begin, kTestLimit) << "watchers held the drain up";
  EXPECT_EQ(process.Next(), Health::UNKNOWN) << "the empty name changed before the process ended";
  EXPECT_EQ(model.Next(), Health::UNKNOWN) << "a draining service became ready again";
}

TEST_F(RpcServerTest, CancelsACallThatRunsBeyondTheLimit) {
  StartServer();
  const auto stream = Generate();
  calls_.AwaitRunning(1);
  const TimePoint begin = SteadyClock().Now();

  server_->Drain(std::chrono::milliseconds(200));

  EXPECT_THAT(SteadyClock().Now() - begin,
              AllOf(Ge(std::chrono::milliseconds(200)), Lt(kTestLimit)));
  EXPECT_FALSE(stream->Finish().ok());
  calls_.AwaitRunning(0);
}

TEST_F(RpcServerTest, DoesNotWaitForCallsThatOnlyWatch) {
  StartServer();
  WatchStream watch(*inference_, &InferenceStub::WatchStatus, {});
  calls_.AwaitRunning(1);
  const TimePoint begin = SteadyClock().Now();

  server_->Drain(kTestLimit);

  EXPECT_LT(SteadyClock().Now() - begin, kTestLimit / 2);
  EXPECT_FALSE(watch.Finish().ok());
}

TEST_F(RpcServerTest, AnswersProbesOfTheEmptyNameOnNewConnectionsWhileItDrains) {
  StartServer();
  const auto stream = Generate();
  calls_.AwaitRunning(1);
  HealthWatch watch(*health_, "model");
  EXPECT_EQ(watch.Next(), Health::NOT_SERVING);
  server_->SetServing("model", true);
  EXPECT_EQ(watch.Next(), Health::SERVING);

  std::thread drain([this] { server_->Drain(kTestLimit); });
  EXPECT_EQ(watch.Next(), Health::NOT_SERVING);
  grpc::ChannelArguments own_connection;
  own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  health_ = grpc::health::v1::Health::NewStub(
      grpc::CreateCustomChannel(absl::StrFormat("127.0.0.1:%d", server_->port()),
                                grpc::InsecureChannelCredentials(), own_connection));
  EXPECT_EQ(Check(""), Health::SERVING);
  EXPECT_EQ(Check("model"), Health::NOT_SERVING);

  calls_.FinishAll();
  EXPECT_TRUE(stream->Finish().ok());
  drain.join();
}

TEST_F(RpcServerTest, NamesTheAddressOfAPortInUse) {
  StartServer();
  const std::string taken = absl::StrFormat("127.0.0.1:%d", server_->port());
  const std::string admin_taken = absl::StrFormat("127.0.0.1:%d", server_->admin_port());

  const auto grpc_port = RpcServer::Start({.listen = taken}, {}, {}, metrics_).status();
  const auto admin_port =
      RpcServer::Start({.admin_listen = admin_taken}, {}, {}, metrics_).status();

  EXPECT_TRUE(absl::IsUnavailable(grpc_port)) << grpc_port;
  EXPECT_THAT(std::string(grpc_port.message()), HasSubstr("gRPC port " + taken + " is in use"));
  EXPECT_TRUE(absl::IsUnavailable(admin_port)) << admin_port;
  EXPECT_THAT(std::string(admin_port.message()),
              HasSubstr("admin port " + admin_taken + " is in use"));
}

TEST_F(RpcServerTest, ExplainsAnAddressThatIsNotOfThisMachine) {
  // 192.0.2.0/24 is reserved for documentation (RFC 5737).
  const auto status = RpcServer::Start({.listen = "192.0.2.1:0"}, {}, {}, metrics_).status();

  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("192.0.2.1:0 is not one of this machine"));
}

TEST_F(RpcServerTest, WritesItsPortsToTheFile) {
  const TempDir folder;
  const std::string path = folder.path() / "ports.json";
  StartServer({.port_file = path, .other_ports = {{"http", 8080}}});

  const auto ports = ReadPortFile(path);

  ASSERT_TRUE(ports.ok()) << ports.status();
  EXPECT_EQ(*ports, (PortFile{{"grpc", server_->port()},
                              {"admin", server_->admin_port()},
                              {"http", 8080},
                              {"pid", getpid()}}));
}

TEST_F(RpcServerTest, FailsToStartWhenThePortFileCannotBeWritten) {
  const auto status = RpcServer::Start({.port_file = "/nowhere/p"}, {}, {}, metrics_).status();

  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/p"));
}

TEST_F(RpcServerTest, CarriesTheRequestIdAndTraceOfACall) {
  StartServer();
  grpc::ClientContext context;
  SetDeadline(context);
  const RequestContext request{.request_id = NewRequestId(), .traceparent = "00-abc-def-01"};
  request.ApplyTo(context);
  internal::v1::GetStatusResponse response;

  ASSERT_TRUE(inference_->GetStatus(&context, {}, &response).ok());

  EXPECT_EQ(response.status().model(), request.request_id);
  EXPECT_EQ(response.status().model_digest(), request.traceparent);
}

TEST_F(RpcServerTest, LosesAnIllegalRequestIdInsteadOfTheCall) {
  StartServer();
  grpc::ClientContext context;
  SetDeadline(context);
  RequestContext{.request_id = "a\nb", .traceparent = "\x01"}.ApplyTo(context);
  internal::v1::GetStatusResponse response;

  ASSERT_TRUE(inference_->GetStatus(&context, {}, &response).ok());
  EXPECT_EQ(response.status().model(), "");
}

TEST_F(RpcServerTest, PassesMessagesOfMoreThanFourMegabytes) {
  StartServer();
  grpc::ClientContext context;
  SetDeadline(context);
  internal::v1::GenerateRequest request;
  request.set_numerics_id(std::string(32 << 20, 'x'));
  const auto stream = inference_->Generate(&context, request);
  calls_.AwaitRunning(1);
  calls_.FinishAll();

  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(RpcServerTest, ServesReflectionOnlyWhenAsked) {
  const auto code_of_reflection = [this] {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareCall(
        &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
    void* tag = nullptr;
    bool ok = false;
    call->StartCall(nullptr);
    queue.Next(&tag, &ok);
    call->WritesDone(nullptr);
    queue.Next(&tag, &ok);
    grpc::Status status;
    call->Finish(&status, nullptr);
    queue.Next(&tag, &ok);
    return status.error_code();
  };
  StartServer({.reflection = true});
  EXPECT_EQ(code_of_reflection(), grpc::StatusCode::OK);
  StartServer({.reflection = false});
  EXPECT_EQ(code_of_reflection(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(RequestIdTest, DrawsDifferentHexadecimalIds) {
  const std::string id = NewRequestId();

  EXPECT_THAT(id, ::testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(id.size(), 32U);
  EXPECT_NE(NewRequestId(), id);
}

TEST(RequestIdTest, AcceptsOneTo128PrintableAsciiCharacters) {
  EXPECT_TRUE(CheckRequestId("a").ok());
  EXPECT_TRUE(CheckRequestId(std::string(128, '~')).ok());
  EXPECT_FALSE(CheckRequestId("").ok());
  EXPECT_FALSE(CheckRequestId(std::string(129, 'a')).ok());
  EXPECT_FALSE(CheckRequestId("a\n").ok());
  EXPECT_FALSE(CheckRequestId("羊").ok());
}

}  // namespace
}  // namespace yangtuo
