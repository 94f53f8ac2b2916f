#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gateway/gateway.h"
#include "google/rpc/error_details.pb.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "services/common/metrics.h"
#include "services/common/status.h"
#include "tests/testing/fake_tokenizer.h"
#include "tests/testing/fake_worker.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo::gateway {

// True once `condition` holds; false when it still does not after `limit`.
inline bool Eventually(const std::function<bool()>& condition,
                       Duration limit = std::chrono::seconds(10)) {
  const TimePoint end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A script that always answers `text`.
inline testing::FakeWorkerScript Says(std::string_view text) {
  testing::FakeWorkerScript script;
  script.answer = [ids = testing::FakeTokenizer::Ids(text)](const auto&) { return ids; };
  return script;
}

constexpr char kText[] = "the quick brown fox jumps over the lazy dog, again and again";

inline testing::FakeWorkerScript Slowly(
    testing::FakeWorkerScript script,
    std::chrono::milliseconds interval = std::chrono::milliseconds(5)) {
  script.interval = interval;
  return script;
}

inline testing::FakeWorkerScript HoldAt(testing::FakeWorkerScript script, std::size_t token) {
  script.hold_at = token;
  return script;
}

// Everything one Generate stream told.
struct Answer {
  absl::Status status;
  std::vector<v1::GenerateResponse> responses;
  std::map<std::uint32_t, std::string> texts;
  std::map<std::uint32_t, std::vector<std::uint32_t>> ids;

  [[nodiscard]] const v1::Started& started() const { return responses.front().started(); }
  [[nodiscard]] const v1::Finished& finished() const { return responses.back().finished(); }
};

// A running gateway between fakes, and a client of it.
class Cluster {
 public:
  using Change = std::function<void(GatewayOptions&)>;

  Cluster(const std::vector<testing::FakeWorker*>& workers,
          const std::vector<testing::FakeTokenizer*>& tokenizers, const Change& change = {}) {
    GatewayOptions options;
    options.service.admin_listen = "";
    options.service.reflection = false;
    options.http.listen = "127.0.0.1:0";
    for (const auto* worker : workers) {
      options.workers.push_back(worker->address());
    }
    for (const auto* tokenizer : tokenizers) {
      options.tokenizers.push_back(tokenizer->address());
    }
    if (change) {
      change(options);
    }
    auto gateway = Gateway::Start(options, metrics_);
    EXPECT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    stub_ = v1::GenerationService::NewStub(
        grpc::CreateChannel(std::string("127.0.0.1:").append(std::to_string(gateway_->port())),
                            grpc::InsecureChannelCredentials()));
    EXPECT_TRUE(Eventually([&] { return gateway_->ready(); }));
    EXPECT_TRUE(Eventually([&] { return WorkersUp() == workers.size(); }));
  }

  [[nodiscard]] Gateway& gateway() { return *gateway_; }
  [[nodiscard]] v1::GenerationService::Stub& stub() { return *stub_; }
  [[nodiscard]] std::string Exposed() { return metrics_.Expose(); }

  [[nodiscard]] std::size_t WorkersUp() {
    const std::string text = Exposed();
    std::size_t up = 0;
    for (std::size_t at = text.find("yangtuo_worker_up{"); at != std::string::npos;
         at = text.find("yangtuo_worker_up{", at + 1)) {
      up += text[text.find("} ", at) + 2] == '1' ? 1U : 0U;
    }
    return up;
  }

  // Reads a whole answer; `on_response` sees every message as it comes.
  Answer Ask(const v1::GenerateRequest& request,
             const std::function<void(const v1::GenerateResponse&)>& on_response = {},
             Duration limit = std::chrono::seconds(20)) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + limit);
    const auto stream = stub_->Generate(&context, request);
    Answer answer;
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
      answer.responses.push_back(response);
      if (response.has_delta()) {
        const v1::Delta& delta = response.delta();
        answer.texts[delta.choice()] += delta.text();
        auto& ids = answer.ids[delta.choice()];
        ids.insert(ids.end(), delta.token_ids().begin(), delta.token_ids().end());
      }
      if (on_response) {
        on_response(response);
      }
    }
    answer.status = FromGrpc(stream->Finish());
    return answer;
  }

  // The promise after whatever happened: nothing is held anywhere.
  [[nodiscard]] bool Idle() {
    return gateway_->admission().requests() == 0 && gateway_->admission().tokens() == 0 &&
           Exposed().find("\nyangtuo_requests_running 0") != std::string::npos;
  }

 private:
  Metrics metrics_;
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

inline v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

}  // namespace yangtuo::gateway
