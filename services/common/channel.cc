#include "services/common/channel.h"

#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "inference_core/base/status_macros.h"
#include "services/common/tls_files.h"

namespace yangtuo {
namespace {

constexpr int kMaxMessageBytes = 256 * 1024 * 1024;

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> CreateChannel(const std::string& target,
                                                             const ClientTls& tls) {
  YANGTUO_ASSIGN_OR_RETURN(const auto credentials, ChannelCredentialsOf(tls));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Without this gRPC stops pinging a silent connection after two pings.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Callers try again themselves. What gRPC would do by itself when a server shuts down is not
  // safe: 1.51's Python clients, which share its core, lose calls that begin in that moment, so
  // that neither their deadline nor a cancellation ends them.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // Also the time that one connection attempt may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  if (target.rfind("dns:///", 0) == 0) {
    arguments.SetServiceConfigJSON(R"({"loadBalancingConfig":[{"round_robin":{}}]})");
    arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 5'000);
  }
  if (tls.enabled() && !tls.server_name.empty()) {
    arguments.SetSslTargetNameOverride(tls.server_name);
  }
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(target, credentials, arguments);
  // gRPC 1.51 ends its callback threads with the last channel or server of the process and may free
  // their queue twice when another begins meanwhile: the first channel stays for the process's
  // life. Volatile, since LeakSanitizer looks for it here and an optimizer drops what nobody reads.
  static const std::shared_ptr<grpc::Channel>* volatile const kept =
      new std::shared_ptr<grpc::Channel>(channel);
  static_cast<void>(kept);
  return channel;
}

}  // namespace yangtuo
