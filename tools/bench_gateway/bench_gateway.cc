#include "tools/bench_gateway/bench_gateway.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <sys/resource.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "grpcpp/create_channel.h"
#include "inference_core/base/status_macros.h"
#include "services/common/channel.h"
#include "services/common/status.h"
#include "tools/bench_gateway/spawned_service.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo::bench_gateway {
namespace {

constexpr char kModelName[] = "bench";
constexpr double kRampFactor = 1.25;
constexpr int kMaxRampSteps = 16;
constexpr auto kCallLimit = std::chrono::seconds(60);

// A folder for logs and port files that lives as long as the run.
class RunFolder {
 public:
  static absl::StatusOr<RunFolder> Make() {
    std::string name = (std::filesystem::temp_directory_path() / "yangtuo-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      return absl::UnavailableError(absl::StrFormat("cannot make a folder %s", name));
    }
    return RunFolder(name);
  }
  RunFolder(RunFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  RunFolder& operator=(RunFolder&&) = delete;
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder() {
    std::error_code ignored;
    if (!path_.empty()) {
      std::filesystem::remove_all(path_, ignored);
    }
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// What the producer needs to know of the tokenizer.
struct Vocabulary {
  internal::v1::TokenizerInfo info;
  std::vector<std::uint32_t> ids{};  // each decodes to whole characters
  std::map<std::uint32_t, std::string> texts{};
};

// True for a piece that is text of its own wherever it stands: not empty, no part of a character,
// and no space at its beginning, which the first token of a text loses.
bool IsWholeText(const std::string& piece) {
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; };
  return !piece.empty() && piece[0] != ' ' && static_cast<unsigned char>(piece[0]) < 0xF8U &&
         !continues(piece[0]) &&
         (static_cast<unsigned char>(piece.back()) < 0x80U || continues(piece.back()));
}

absl::StatusOr<Vocabulary> ReadVocabulary(const std::string& tokenizer) {
  YANGTUO_ASSIGN_OR_RETURN(const auto channel, CreateChannel(tokenizer, {}));
  const auto stub = internal::v1::TokenizerService::NewStub(channel);
  grpc::ClientContext first;
  first.set_deadline(std::chrono::system_clock::now() + kCallLimit);
  first.set_wait_for_ready(true);
  internal::v1::GetTokenizerResponse infos;
  YANGTUO_RETURN_IF_ERROR(FromGrpc(stub->GetTokenizer(&first, {}, &infos)));
  if (infos.tokenizers_size() == 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the tokenizer service at %s serves no tokenizer", tokenizer));
  }
  Vocabulary vocabulary{.info = infos.tokenizers(0)};
  internal::v1::DecodeRequest request;
  request.set_tokenizer(vocabulary.info.name());
  request.set_want_pieces(true);
  for (std::uint32_t id = 0; id < vocabulary.info.vocabulary_size(); ++id) {
    request.add_ids(id);
  }
  grpc::ClientContext second;
  second.set_deadline(std::chrono::system_clock::now() + kCallLimit);
  internal::v1::DecodeResponse pieces;
  YANGTUO_RETURN_IF_ERROR(FromGrpc(stub->Decode(&second, request, &pieces)));
  for (int id = 0; id < pieces.pieces_size(); ++id) {
    const auto token = static_cast<std::uint32_t>(id);
    if (IsWholeText(pieces.pieces(id)) && token != vocabulary.info.bos_id() &&
        token != vocabulary.info.eos_id()) {
      vocabulary.ids.push_back(token);
      vocabulary.texts.emplace(token, pieces.pieces(id));
    }
  }
  if (vocabulary.ids.empty()) {
    return absl::FailedPreconditionError("the tokenizer has no token that is text of its own");
  }
  return vocabulary;
}

std::filesystem::path ProgramFolder(const std::string& given) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return given.empty() ? self.parent_path() : std::filesystem::path(given);
}

// How much more memory a service will have than it has now.
std::function<double()> BeyondNow(const SpawnedService& service) {
  return [&service, idle = service.ResidentBytes()] { return service.ResidentBytes() - idle; };
}

// Every stream over HTTP is a descriptor here and in the services, which inherit the limit.
void RaiseOpenFilesLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

absl::StatusOr<BenchGatewayReport> RunCluster(const BenchGatewayOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(const RunFolder folder, RunFolder::Make());
  const std::filesystem::path programs = ProgramFolder(options.programs);
  std::optional<SpawnedService> tokenizer;
  if (options.tokenizer.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(
        SpawnedService started,
        SpawnedService::Start(programs / "yangtuo-tokenizer",
                              {"--model", absl::StrFormat("%s=%s", kModelName, options.model)},
                              folder.path()));
    tokenizer.emplace(std::move(started));
  }
  const std::string tokenizer_address =
      tokenizer.has_value() ? tokenizer->address() : options.tokenizer;
  YANGTUO_ASSIGN_OR_RETURN(Vocabulary vocabulary, ReadVocabulary(tokenizer_address));
  YANGTUO_ASSIGN_OR_RETURN(
      const auto producer,
      TokenProducer::Start({.model = vocabulary.info.name(),
                            .tokenizer_digest = vocabulary.info.digest(),
                            .vocabulary_size = vocabulary.info.vocabulary_size()}));
  const std::size_t streams = options.load.streams + options.load.bad_clients;
  YANGTUO_ASSIGN_OR_RETURN(
      const SpawnedService gateway,
      SpawnedService::Start(
          programs / "yangtuo-gateway",
          {"--http-listen", "127.0.0.1:0", "--workers", producer->address(), "--tokenizers",
           tokenizer_address, "--max-requests", absl::StrFormat("%d", 2 * streams),
           "--http-connections", absl::StrFormat("%d", 2 * streams + 16), "--max-tokens",
           "1000000000000"},
          folder.path()));
  LoadTarget target{.gateway = gateway.address(),
                    .model = vocabulary.info.name(),
                    .ids = std::move(vocabulary.ids),
                    .http = gateway.http_address(),
                    .texts = std::move(vocabulary.texts),
                    .producer = producer.get(),
                    .gateway_cpu = [&gateway] { return gateway.CpuSeconds(); }};
  if (tokenizer.has_value()) {
    target.tokenizer_cpu = [&tokenizer] { return tokenizer->CpuSeconds(); };
  }
  YANGTUO_RETURN_IF_ERROR(WaitForModel(target));
  target.gateway_bytes = BeyondNow(gateway);
  if (tokenizer.has_value()) {
    target.tokenizer_bytes = BeyondNow(*tokenizer);
  }
  return RunLoads(target, options);
}

}  // namespace

double SaturationRate(const BenchGatewayReport& report) {
  double best = report.asked.sustained() ? report.asked.delivered_per_second : 0;
  for (const StepResult& step : report.steps) {
    best = step.sustained() ? std::max(best, step.delivered_per_second) : best;
  }
  return best;
}

absl::StatusOr<BenchGatewayReport> RunLoads(const LoadTarget& target,
                                            const BenchGatewayOptions& options) {
  BenchGatewayReport report;
  YANGTUO_ASSIGN_OR_RETURN(report.asked, RunStep(target, options.load));
  const bool up = report.asked.sustained();
  StepOptions load = options.load;
  for (int i = 0; options.ramp && i < kMaxRampSteps; ++i) {
    load.tokens_per_second *= up ? kRampFactor : 1 / kRampFactor;
    YANGTUO_ASSIGN_OR_RETURN(StepResult step, RunStep(target, load));
    report.steps.push_back(std::move(step));
    if (report.steps.back().sustained() != up) {
      break;
    }
  }
  return report;
}

int RunBenchGateway(const BenchGatewayOptions& options, std::ostream& out) {
  RaiseOpenFilesLimit();
  const auto report = RunCluster(options);
  if (!report.ok()) {
    out << "bench gateway: " << report.status().message() << "\n";
    return EXIT_FAILURE;
  }
  if (options.json) {
    PrintJson(*report, out);
  } else {
    PrintTable(*report, out);
  }
  return report->asked.sustained() ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace yangtuo::bench_gateway
