#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/call_scope.h"
#include "gateway/generation_flow.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// Told the model and how many tokens all texts together have, before they are computed: they count
// whatever becomes of the request.
using OnTokensCounted = std::function<void(const std::string& model, std::uint64_t tokens)>;

// One Embed request: the texts are encoded, then embedded a few at a time on the least loaded
// groups. `inputs` are texts that are token ids already and are used as they are; `request.texts`
// is empty then. `done` runs exactly once, possibly before this returns.
void StartEmbed(FlowServices& services, v1::EmbedRequest request,
                std::vector<std::vector<std::uint32_t>> inputs, std::shared_ptr<CallScope> scope,
                OnTokensCounted counted, Callback<v1::EmbedResponse> done);

}  // namespace yangtuo::gateway
