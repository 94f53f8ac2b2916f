#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

namespace yangtuo::testing {

// A gRPC service on a loopback port that the system chose, which can die and come back there.
class FakeServer {
 public:
  explicit FakeServer(grpc::Service& service) : service_(service) { Start(); }
  ~FakeServer() { Kill(); }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  [[nodiscard]] std::string address() const {
    return std::string("127.0.0.1:").append(std::to_string(port_));
  }

  // As if the process was killed: every call breaks, the port is closed. Not from several threads.
  void Kill() {
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now());
      server_->Wait();
      server_.reset();
    }
  }

  // On the same port as before.
  void Start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address(), grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(-1);
    // Our clients ping often.
    builder.AddChannelArgument("grpc.http2.min_ping_interval_without_data_ms", 1000);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }

 private:
  grpc::Service& service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace yangtuo::testing
