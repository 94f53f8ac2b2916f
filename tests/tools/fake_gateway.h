#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "services/common/status.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo::testing {

// A gateway that answers what a test tells it. The synchronous API keeps it short; the fields are
// set before the calls they are for.
class FakeGateway : public v1::GenerationService::Service {
 public:
  // What Generate answers to everything, one delta a piece.
  std::vector<std::string> pieces = {"床前", "明月光"};
  absl::Status error;       // after the pieces, in place of `finished`
  bool never_ends = false;  // after the pieces it waits until the call is cancelled
  v1::ListModelsResponse models;

  FakeGateway() { AddModel("poem", "alpaca", 512); }

  void AddModel(const std::string& name, const std::string& chat_template, std::uint32_t context) {
    v1::Model& model = *models.add_models();
    model.set_name(name);
    model.set_chat_template(chat_template);
    model.set_context_tokens(context);
    model.set_vocabulary_size(6001);
    model.set_ready_groups(1);
    model.set_digest("0123456789abcdef");
    model.set_weight_type("bf16");
  }

  // The requests so far.
  std::vector<v1::GenerateRequest> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  int cancelled() const { return cancelled_; }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(*request);
    }
    v1::GenerateResponse response;
    response.mutable_started()->set_seed(7);
    response.mutable_started()->set_prompt_tokens(3);
    writer->Write(response);
    for (const std::string& piece : pieces) {
      response.mutable_delta()->set_text(piece);
      writer->Write(response);
    }
    while (never_ends) {
      if (context->IsCancelled()) {
        ++cancelled_;
        return grpc::Status::CANCELLED;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (!error.ok()) {
      return ToGrpc(error);
    }
    v1::Finished& finished = *response.mutable_finished();
    finished.mutable_usage()->set_prompt_tokens(3);
    finished.mutable_usage()->set_completion_tokens(static_cast<std::uint32_t>(pieces.size()));
    finished.add_choices()->set_finish_reason(v1::FINISH_REASON_STOP);
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext* /*context*/,
                          const v1::ListModelsRequest* /*request*/,
                          v1::ListModelsResponse* response) override {
    *response = models;
    return grpc::Status::OK;
  }

  // One token a byte.
  grpc::Status Tokenize(grpc::ServerContext* /*context*/, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    for (const v1::ChatMessage& message : request->chat().messages()) {
      for (std::size_t i = 0; i < message.content().size(); ++i) {
        response->add_token_ids(1);
      }
    }
    return grpc::Status::OK;
  }

 private:
  std::mutex mutex_;
  std::vector<v1::GenerateRequest> requests_;
  std::atomic<int> cancelled_ = 0;
};

}  // namespace yangtuo::testing
