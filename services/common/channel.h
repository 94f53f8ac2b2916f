#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/channel.h"
#include "services/common/service_options.h"

namespace yangtuo {

// A channel with our keepalive (10 s), message limit (256 MiB) and reconnect backoff (at most 2 s).
// `target`: "host:port", or "dns:///name:port" (round robin over all its addresses). `tls` empty:
// plaintext. INVALID_ARGUMENT for unreadable certificate files.
absl::StatusOr<std::shared_ptr<grpc::Channel>> CreateChannel(const std::string& target,
                                                             const ClientTls& tls);

}  // namespace yangtuo
