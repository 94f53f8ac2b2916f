#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gateway/call_scope.h"
#include "gateway/generation_flow.h"
#include "yangtuo/v1/generation.pb.h"

// The public calls that need no worker stream, for whatever transport.
namespace yangtuo::gateway {

void StartTokenize(FlowServices& services, const v1::TokenizeRequest& request,
                   std::shared_ptr<CallScope> scope, Callback<v1::TokenizeResponse> done);
void StartDetokenize(FlowServices& services, const v1::DetokenizeRequest& request,
                     std::shared_ptr<CallScope> scope, Callback<v1::DetokenizeResponse> done);
// Those that the caller may use.
v1::ListModelsResponse ListModels(const FlowServices& services, const Caller& caller);
absl::StatusOr<v1::GetModelResponse> GetModel(const FlowServices& services, const Caller& caller,
                                              const std::string& name);

}  // namespace yangtuo::gateway
