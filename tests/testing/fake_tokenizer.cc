#include "tests/testing/fake_tokenizer.h"

#include <chrono>
#include <map>
#include <thread>

namespace yangtuo::testing {
namespace {

// The bytes at the end of `text` that begin a character but do not complete it.
std::size_t IncompleteTail(const std::string& text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte >= 0xC0) {
      const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
      return length > back ? back : 0;
    }
    if (byte < 0x80) {
      return 0;
    }
  }
  return 0;
}

std::string Piece(std::uint32_t id) {
  return id < FakeTokenizer::kFirstByte
             ? std::string()
             : std::string(1, static_cast<char>(id - FakeTokenizer::kFirstByte));
}

struct OpenStream {
  std::string held;
  std::uint32_t consumed = 0;
};

}  // namespace

std::vector<std::uint32_t> FakeTokenizer::Ids(std::string_view text) {
  std::vector<std::uint32_t> ids;
  for (const char c : text) {
    ids.push_back(kFirstByte + static_cast<unsigned char>(c));
  }
  return ids;
}

std::string FakeTokenizer::Text(const std::vector<std::uint32_t>& ids) {
  std::string text;
  for (const std::uint32_t id : ids) {
    text += Piece(id);
  }
  return text;
}

grpc::Status FakeTokenizer::Encode(grpc::ServerContext* context,
                                   const internal::v1::EncodeRequest* request,
                                   internal::v1::EncodeResponse* response) {
  while (hold_encodes_ && !context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (request->texts_size() > 256) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "texts: expected 1 to 256"};
  }
  for (const std::string& text : request->texts()) {
    auto& ids = *response->add_texts();
    if (request->add_bos()) {
      ids.add_ids(kBos);
    }
    for (const std::uint32_t id : Ids(text)) {
      ids.add_ids(id);
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeTokenizer::Decode(grpc::ServerContext* /*context*/,
                                   const internal::v1::DecodeRequest* request,
                                   internal::v1::DecodeResponse* response) {
  for (const std::uint32_t id : request->ids()) {
    response->mutable_text()->append(Piece(id));
    if (request->want_pieces()) {
      response->add_pieces(Piece(id));
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeTokenizer::DecodeStream(
    grpc::ServerContext* /*context*/,
    grpc::ServerReaderWriter<internal::v1::DecodeStreamResponse, internal::v1::DecodeStreamRequest>*
        stream) {
  std::map<std::uint64_t, OpenStream> open;
  internal::v1::DecodeStreamRequest request;
  while (stream->Read(&request)) {
    ++decode_messages_;
    decode_inputs_ += request.inputs_size();
    internal::v1::DecodeStreamResponse response;
    for (const auto& input : request.inputs()) {
      OpenStream& text = open[input.stream_id()];
      auto& output = *response.add_outputs();
      output.set_stream_id(input.stream_id());
      for (const std::uint32_t id : input.ids()) {
        if (id >= kVocabulary) {
          output.set_error("id " + std::to_string(id) + " is outside the vocabulary");
        }
        text.held += Piece(id);
        ++text.consumed;
      }
      const std::size_t tail = input.end() ? 0 : IncompleteTail(text.held);
      output.set_text(text.held.substr(0, text.held.size() - tail));
      text.held.erase(0, text.held.size() - tail);
      output.set_ids_consumed(text.consumed);
      output.set_end(input.end() || !output.error().empty());
      if (output.end()) {
        open.erase(input.stream_id());
      }
    }
    if (!stream->Write(response)) {
      break;
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeTokenizer::RenderChat(grpc::ServerContext* /*context*/,
                                       const internal::v1::RenderChatRequest* request,
                                       internal::v1::RenderChatResponse* response) {
  response->add_ids(kBos);
  for (const auto& message : request->messages()) {
    for (const std::uint32_t id : Ids(message.role() + ": " + message.content() + "\n")) {
      response->add_ids(id);
    }
  }
  response->set_template_(request->template_());
  response->add_stop_strings("\nuser:");
  return grpc::Status::OK;
}

grpc::Status FakeTokenizer::GetTokenizer(grpc::ServerContext* /*context*/,
                                         const internal::v1::GetTokenizerRequest* /*request*/,
                                         internal::v1::GetTokenizerResponse* response) {
  response->set_draining(draining_);
  auto& info = *response->add_tokenizers();
  info.set_name(options_.name);
  info.set_digest(options_.digest);
  info.set_vocabulary_size(kVocabulary);
  info.set_bos_id(kBos);
  info.set_eos_id(kEos);
  info.set_chat_template(options_.chat_template);
  info.add_chat_templates("plain");
  info.add_chat_templates("other");
  return grpc::Status::OK;
}

}  // namespace yangtuo::testing
