#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/testing/fake_server.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo::testing {

// A tokenizer service whose tokens are bytes: id 3 + b is the byte b, 1 begins a text, 2 ends one.
// At most 256 texts of one Encode, as the real one. Faults by switch. One thread a call, for tests
// only.
class FakeTokenizer final : public internal::v1::TokenizerService::Service {
 public:
  static constexpr std::uint32_t kBos = 1;
  static constexpr std::uint32_t kEos = 2;
  static constexpr std::uint32_t kFirstByte = 3;
  static constexpr std::uint32_t kVocabulary = 259;

  struct Options {
    std::string name = "fake-model";
    std::string digest = "fake-tokenizer";
    std::string chat_template = "plain";  // empty: completion only
  };

  FakeTokenizer() : FakeTokenizer(Options{}) {}
  explicit FakeTokenizer(Options options) : options_(std::move(options)), server_(*this) {}
  ~FakeTokenizer() override { server_.Kill(); }

  [[nodiscard]] std::string address() const { return server_.address(); }
  void Kill() { server_.Kill(); }
  void Restart() { server_.Start(); }

  // Ids whose bytes the stream of `text` is, without BOS.
  static std::vector<std::uint32_t> Ids(std::string_view text);
  static std::string Text(const std::vector<std::uint32_t>& ids);

  // While held, Encode does not answer; all else does.
  void HoldEncodes(bool hold) { hold_encodes_ = hold; }

  // As a process that is going to end says it.
  void SetDraining(bool draining) { draining_ = draining; }

  // Messages and inputs of DecodeStream so far.
  [[nodiscard]] int decode_messages() const { return decode_messages_; }
  [[nodiscard]] int decode_inputs() const { return decode_inputs_; }

 private:
  grpc::Status Encode(grpc::ServerContext* context, const internal::v1::EncodeRequest* request,
                      internal::v1::EncodeResponse* response) override;
  grpc::Status Decode(grpc::ServerContext* context, const internal::v1::DecodeRequest* request,
                      internal::v1::DecodeResponse* response) override;
  grpc::Status DecodeStream(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<internal::v1::DecodeStreamResponse,
                               internal::v1::DecodeStreamRequest>* stream) override;
  grpc::Status RenderChat(grpc::ServerContext* context,
                          const internal::v1::RenderChatRequest* request,
                          internal::v1::RenderChatResponse* response) override;
  grpc::Status GetTokenizer(grpc::ServerContext* context,
                            const internal::v1::GetTokenizerRequest* request,
                            internal::v1::GetTokenizerResponse* response) override;

  const Options options_;
  std::atomic<bool> hold_encodes_ = false;
  std::atomic<bool> draining_ = false;
  std::atomic<int> decode_messages_ = 0;
  std::atomic<int> decode_inputs_ = 0;
  FakeServer server_;
};

}  // namespace yangtuo::testing
