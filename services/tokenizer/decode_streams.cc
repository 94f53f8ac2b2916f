#include "services/tokenizer/decode_streams.h"

#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {

void DecodeStreams::Decode(const internal::v1::DecodeStreamRequest& request,
                           internal::v1::DecodeStreamResponse& response) {
  std::size_t tokens = 0;
  for (const internal::v1::DecodeStreamInput& input : request.inputs()) {
    internal::v1::DecodeStreamOutput& output = *response.add_outputs();
    output.set_stream_id(input.stream_id());
    absl::Status status;
    if (!open_.contains(input.stream_id())) {
      status = Open(input);
    }
    if (const auto found = open_.find(input.stream_id()); found != open_.end()) {
      status = Feed(input, found->second, output);
      output.set_ids_consumed(static_cast<std::uint32_t>(found->second.decoder.ids_consumed()));
      tokens += static_cast<std::size_t>(input.ids_size());
    }
    if (!status.ok()) {
      output.set_error(std::string(status.message()));
    }
    if (input.end() || !status.ok()) {
      output.set_end(true);
      Close(input.stream_id());
    }
  }
  metrics_.Decoded(tokens);
}

absl::Status DecodeStreams::Open(const internal::v1::DecodeStreamInput& input) {
  if (open_.size() >= kMaxOpen) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("a call may have %d open text streams; open another call", kMaxOpen));
  }
  YANGTUO_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, tokenizers_.Find(input.tokenizer()));
  IncrementalDecoder decoder(tokenizer->vocabulary());
  ids_.assign(input.context_ids().begin(), input.context_ids().end());
  YANGTUO_RETURN_IF_ERROR(decoder.SkipContext(ids_));
  open_.emplace(input.stream_id(), Stream{tokenizer, decoder});
  metrics_.StreamsOpened(1);
  return absl::OkStatus();
}

absl::Status DecodeStreams::Feed(const internal::v1::DecodeStreamInput& input, Stream& stream,
                                 internal::v1::DecodeStreamOutput& output) {
  ids_.assign(input.ids().begin(), input.ids().end());
  YANGTUO_RETURN_IF_ERROR(stream.decoder.Append(ids_, *output.mutable_text()));
  if (input.end()) {
    stream.decoder.Finish(*output.mutable_text());
  }
  if (input.want_pieces()) {
    for (const std::int32_t id : ids_) {
      output.add_pieces(stream.tokenizer->vocabulary().piece(id).text);
    }
  }
  return absl::OkStatus();
}

void DecodeStreams::Close(std::uint64_t id) {
  if (open_.erase(id) > 0) {
    metrics_.StreamsOpened(-1);
  }
}

}  // namespace yangtuo
