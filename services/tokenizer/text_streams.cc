#include "services/tokenizer/text_streams.h"

#include <string>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/tokenizer/id_span.h"

namespace yangtuo {

TextStreams::~TextStreams() { metrics_.AddOpenStreams(-static_cast<int>(streams_.size())); }

void TextStreams::Answer(const internal::v1::DecodeStreamRequest& request,
                         internal::v1::DecodeStreamResponse& response) {
  response.clear_outputs();
  std::size_t num_ids = 0;
  for (const internal::v1::DecodeStreamInput& input : request.inputs()) {
    internal::v1::DecodeStreamOutput& output = *response.add_outputs();
    output.set_stream_id(input.stream_id());
    num_ids += static_cast<std::size_t>(input.ids_size());
    const absl::Status status = AnswerInput(input, output);
    if (!status.ok()) {
      output.set_error(std::string(status.message()));
    }
    output.set_end(input.end() || !status.ok());
    if (output.end()) {
      Forget(input.stream_id());
    }
  }
  metrics_.CountDecoded(num_ids);
}

absl::StatusOr<TextStreams::Streams::iterator> TextStreams::FindOrOpen(
    const internal::v1::DecodeStreamInput& input) {
  const auto found = streams_.find(input.stream_id());
  if (found != streams_.end()) {
    return found;
  }
  if (streams_.size() >= max_open_) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "%d text streams are open in this call, which is the limit; open another call",
        streams_.size()));
  }
  YANGTUO_ASSIGN_OR_RETURN(const NamedTokenizer* named, registry_.Find(input.tokenizer()));
  const Vocabulary& vocabulary = named->tokenizer->vocabulary();
  Stream stream{.vocabulary = &vocabulary, .decoder = IncrementalDecoder(vocabulary)};
  YANGTUO_RETURN_IF_ERROR(stream.decoder.SkipContext(IdSpan(input.context_ids())));
  metrics_.AddOpenStreams(1);
  return streams_.emplace(input.stream_id(), std::move(stream)).first;
}

absl::Status TextStreams::AnswerInput(const internal::v1::DecodeStreamInput& input,
                                      internal::v1::DecodeStreamOutput& output) {
  YANGTUO_ASSIGN_OR_RETURN(const auto found, FindOrOpen(input));
  Stream& stream = found->second;
  const absl::Status status = stream.decoder.Append(IdSpan(input.ids()), *output.mutable_text());
  output.set_ids_consumed(static_cast<std::uint32_t>(stream.decoder.ids_consumed()));
  YANGTUO_RETURN_IF_ERROR(status);
  if (input.want_pieces()) {
    for (const std::int32_t id : IdSpan(input.ids())) {
      output.add_pieces(stream.vocabulary->piece(id).text);
    }
  }
  if (input.end()) {
    stream.decoder.Finish(*output.mutable_text());
  }
  return absl::OkStatus();
}

void TextStreams::Forget(std::uint64_t stream_id) {
  if (streams_.erase(stream_id) > 0) {
    metrics_.AddOpenStreams(-1);
  }
}

}  // namespace yangtuo
