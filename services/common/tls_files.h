#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "services/common/service_options.h"

// PEM files to gRPC credentials. gRPC itself reports a bad file only as a port that cannot be
// opened or a peer that cannot be reached; these name the file and what is wrong with it
// (INVALID_ARGUMENT).
namespace yangtuo {

// Plaintext when `tls` is not enabled.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(const ServerTls& tls);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsOf(
    const ClientTls& tls);

}  // namespace yangtuo
