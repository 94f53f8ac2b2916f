#pragma once

#include "CLI/CLI.hpp"
#include "tools/common/client.h"
#include "tools/common/sampling_settings.h"

namespace yangtuo {

// --server, --api-key-file, --tls-ca, --tls-cert, --tls-key, --tls-server-name.
void AddClientFlags(CLI::App& app, ClientOptions& options);

// One flag a setting, refusing values outside the ranges of the API.
void AddSamplingFlags(CLI::App& app, SamplingSettings& settings);

}  // namespace yangtuo
