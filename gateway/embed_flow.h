#pragma once

#include <functional>
#include <memory>

#include "gateway/call_scope.h"
#include "gateway/generation_flow.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// One Embed request: all texts are encoded in one call, then embedded a few at a time on the least
// loaded groups. `done` runs exactly once, possibly before this returns.
void StartEmbed(FlowServices& services, v1::EmbedRequest request, std::shared_ptr<CallScope> scope,
                Callback<v1::EmbedResponse> done);

}  // namespace yangtuo::gateway
