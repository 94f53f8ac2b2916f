#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "services/common/service_options.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo {

inline constexpr char kDefaultServer[] = "127.0.0.1:50051";

struct ClientOptions {
  std::string server = kDefaultServer;  // "host:port" of a gateway
  ClientTls tls;
  std::string api_key_file = {};  // its first line is the key; empty: none
};

// The value of the authorization header for ClientOptions::api_key_file; empty when `file` is.
// INVALID_ARGUMENT when its first line is no key.
absl::StatusOr<std::string> ReadAuthorization(const std::string& file);

// What the commands ask of a gateway. The calls block; Cancel is thread-safe, the rest is for one
// thread. Errors are the gateway's own, or UNAVAILABLE without a reason when it is not reached.
class Client {
 public:
  // Does not wait for the connection: the first call finds out. INVALID_ARGUMENT for unreadable
  // certificates and keys.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const ClientOptions& options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  absl::StatusOr<v1::ListModelsResponse> ListModels();
  // By public name; the only model there is when `name` is empty. NOT_FOUND and FAILED_PRECONDITION
  // (several, and none named) list the models there are.
  absl::StatusOr<v1::Model> FindModel(const std::string& name);
  absl::StatusOr<std::uint32_t> CountTokens(const v1::TokenizeRequest& request);
  // grpc.health.v1 of the generation service.
  absl::StatusOr<bool> IsServing();

  // Hands every event to `on_event`, on this thread, and returns when the stream is over.
  absl::Status Generate(const v1::GenerateRequest& request, Duration limit,
                        const std::function<void(const v1::GenerateResponse&)>& on_event);
  // Ends the Generate in progress with CANCELLED; false when there is none.
  bool Cancel();

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo
