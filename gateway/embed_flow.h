#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "gateway/call_scope.h"
#include "gateway/generation_flow.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// One Embed request: all texts are encoded in one call, then embedded a few at a time on the least
// loaded groups. `done` runs exactly once, possibly before this returns.
void StartEmbed(FlowServices& services, v1::EmbedRequest request, std::shared_ptr<CallScope> scope,
                Callback<v1::EmbedResponse> done);

// The same for inputs that are token ids already, used as they are; `request.texts` is empty.
void StartEmbedTokens(FlowServices& services, v1::EmbedRequest request,
                      std::vector<std::vector<std::uint32_t>> inputs,
                      std::shared_ptr<CallScope> scope, Callback<v1::EmbedResponse> done);

}  // namespace yangtuo::gateway
