#include "tools/common/flags.h"

#include <limits>

namespace yangtuo {
namespace {

constexpr char kSampling[] = "How the answer is chosen";
constexpr char kConnection[] = "Connection";

}  // namespace

void AddClientFlags(CLI::App& app, ClientOptions& options) {
  app.add_option("--server", options.server, "gateway to ask, HOST:PORT")
      ->envname("YANGTUO_SERVER")
      ->capture_default_str()
      ->group(kConnection);
  app.add_option("--api-key-file", options.api_key_file,
                 "file whose first line is an API key, where the gateway wants one")
      ->envname("YANGTUO_API_KEY_FILE")
      ->type_name("FILE")
      ->group(kConnection);
  app.add_option("--tls-ca", options.tls.ca_file,
                 "use TLS and verify the gateway with this CA certificate (PEM)")
      ->check(CLI::ExistingFile)
      ->group(kConnection);
  CLI::Option* cert = app.add_option("--tls-cert", options.tls.cert_file,
                                     "own certificate (PEM), where the gateway asks for one")
                          ->check(CLI::ExistingFile)
                          ->group(kConnection);
  CLI::Option* key = app.add_option("--tls-key", options.tls.key_file, "key of --tls-cert (PEM)")
                         ->check(CLI::ExistingFile)
                         ->group(kConnection);
  cert->needs(key);
  key->needs(cert);
  app.add_option("--tls-server-name", options.tls.server_name,
                 "name in the gateway's certificate, when it differs from the address")
      ->group(kConnection);
}

void AddSamplingFlags(CLI::App& app, SamplingSettings& settings) {
  const auto add = [&app](const char* flag, auto& value, const char* help) {
    return app.add_option(flag, value, help)->capture_default_str()->group(kSampling);
  };
  add("--temperature", settings.temperature, "0 always takes the most probable token")
      ->check(CLI::Range(0.0, 100.0));
  add("--top-k", settings.top_k, "choose among the k most probable tokens; 0: all");
  add("--top-p", settings.top_p, "choose among the most probable tokens that sum up to p")
      ->check(CLI::Range(std::numeric_limits<double>::min(), 1.0, "above 0, at most 1"));
  add("--min-p", settings.min_p, "drop tokens below this fraction of the best one's probability")
      ->check(CLI::Range(0.0, 1.0));
  add("--repetition-penalty", settings.repetition_penalty, "above 1 avoids tokens already seen")
      ->check(CLI::Range(std::numeric_limits<double>::min(), 10.0, "above 0, at most 10"));
  add("--presence-penalty", settings.presence_penalty, "subtracted for tokens already generated")
      ->check(CLI::Range(-2.0, 2.0));
  add("--frequency-penalty", settings.frequency_penalty, "subtracted per earlier occurrence")
      ->check(CLI::Range(-2.0, 2.0));
  add("--seed", settings.seed, "same seed, same answer; drawn when not given");
  add("--max-new-tokens", settings.max_new_tokens,
      "longest answer [512, or the context where it is smaller]")
      ->check(CLI::Range(1U, std::numeric_limits<std::uint32_t>::max(), "at least 1"));
  app.add_option("--stop", settings.stop, "end the answer before this text; may be given again")
      ->allow_extra_args(false)
      ->group(kSampling);
}

}  // namespace yangtuo
