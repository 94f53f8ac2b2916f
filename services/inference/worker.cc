#include "services/inference/worker.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <sys/resource.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "services/common/channel.h"
#include "services/common/log.h"
#include "services/common/rpc_server.h"
#include "services/common/status.h"
#include "services/inference/inference_service.h"
#include "services/inference/readiness.h"
#include "services/inference/relay_stage.h"
#include "services/inference/remote_stage.h"
#include "services/inference/shard_host.h"
#include "services/inference/shard_service.h"
#include "services/inference/tokenizer_fit.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

constexpr char kInferenceHealth[] = "yangtuo.internal.v1.InferenceService";
constexpr char kShardHealth[] = "yangtuo.internal.v1.ShardService";
// After the last token: for trailers, and for clients that read slowly.
constexpr Duration kCallsEnd = std::chrono::seconds(2);
// A shard whose leader sent no step for this long is not in use.
constexpr Duration kShardQuiet = std::chrono::seconds(1);
constexpr Duration kLogAgain = std::chrono::seconds(10);
// Rows that a shard offers to its leader, whatever that one's own step budget is.
constexpr std::int32_t kShardStepTokens = 512;

// What is known before anything is loaded.
struct KnownModel {
  ModelIdentity identity;
  ShardPlace place;
  std::string next;  // shard address of the worker that follows; "" when none does
  StageOptions stage;
  std::string name;
  std::string tokenizer_digest;  // "" without a tokenizer
};

std::filesystem::path PackedWeightsFolder(const WorkerOptions& options) {
  if (options.packed_weights == "off") {
    return {};
  }
  if (options.packed_weights != "beside") {
    return options.packed_weights;
  }
  const std::filesystem::path& model = options.stage.model;
  std::error_code error;
  return (std::filesystem::is_directory(model, error) ? model : model.parent_path()) / ".yangtuo";
}

absl::StatusOr<KnownModel> Identify(const WorkerOptions& options) {
  KnownModel known;
  known.stage = options.stage;
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(options.stage.model));
  if (!options.stage.adapters.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(checkpoint,
                             WithAdapters(std::move(checkpoint), options.stage.adapters));
  }
  YANGTUO_ASSIGN_OR_RETURN(known.place, ResolvePlace(options, checkpoint.config.layers));
  known.next = NextAddress(options, known.place);
  YANGTUO_ASSIGN_OR_RETURN(const KnownTokenizer tokenizer, CheckTokenizerOf(checkpoint));
  known.tokenizer_digest = tokenizer.digest;
  known.stage.constraints = tokenizer.constraints;
  known.stage.packed_weights = PackedWeightsFolder(options);
  known.stage.first_layer = known.place.layers.first;
  known.stage.last_layer = known.place.layers.last;
  known.stage.max_step_tokens = known.place.leads()
                                    ? options.engine.step_tokens
                                    : std::max(options.engine.step_tokens, kShardStepTokens);
  YANGTUO_ASSIGN_OR_RETURN(known.identity, IdentifyModel(known.stage));
  known.name = options.model_name.empty()
                   ? std::filesystem::weakly_canonical(options.stage.model).filename().string()
                   : options.model_name;
  return known;
}

// What must follow this worker's layers.
StageInfo ExpectedNext(const KnownModel& known) {
  const LlamaConfig& config = known.identity.config;
  StageInfo info;
  info.model_digest = known.identity.digest;
  info.numerics = known.identity.numerics;
  info.weight_type = known.identity.weight_type;
  info.first_layer = known.place.layers.last;
  info.num_layers = config.layers;
  info.hidden = config.hidden;
  info.vocab = config.vocab;
  info.context_tokens =
      known.stage.context_tokens > 0 ? known.stage.context_tokens : config.context_tokens;
  info.kv_block_size = kKvBlockSize;
  info.max_step_tokens = known.stage.max_step_tokens;
  return info;
}

// Attempts until the next shard is there; says now and then what it waits for.
template <typename Attempt>
auto ConnectPatiently(const std::string& address, const Attempt& attempt) -> decltype(attempt()) {
  std::string last_reason;
  TimePoint last_log{};
  while (true) {
    auto stage = attempt();
    if (stage.ok()) {
      Log(LogLevel::kInfo, "next shard found",
          {{"address", address}, {"shards", std::int64_t{(*stage)->info().depth}}});
      return stage;
    }
    const std::string reason(stage.status().message());
    const TimePoint now = std::chrono::steady_clock::now();
    if (reason != last_reason || now - last_log > kLogAgain) {
      Log(LogLevel::kWarning, "waiting for the next shard",
          {{"address", address}, {"reason", reason}});
      last_reason = reason;
      last_log = now;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

std::int64_t PeakMemoryMegabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

absl::Status FollowerRefusal(const ShardPlace& place) {
  return WithReason(absl::FailedPreconditionError(absl::StrFormat(
                        "this worker is shard %d of %d; ask the leader, which has the first layers",
                        place.index, place.shards)),
                    "NOT_THE_LEADER");
}

}  // namespace

// Whatever uses a part is declared after it; ~Worker ends what runs on other threads first.
struct Worker::Parts {
  Parts(const WorkerOptions& worker_options, KnownModel model, std::unique_ptr<Tracer> spans,
        Metrics& process_metrics)
      : options(worker_options),
        known(std::move(model)),
        tracer(std::move(spans)),
        metrics(process_metrics),
        worker_metrics(process_metrics),
        host(tracer.get()),
        board(std::make_shared<StatusBoard>([this] { return ReadStatus(); })),
        shard_service(host, ticker, options.shard_timing) {
    InferenceService::Options service_options;
    service_options.model = known.name;
    service_options.tracer = tracer.get();
    if (!known.place.leads()) {
      service_options.refusal = FollowerRefusal(known.place);
    }
    service = std::make_unique<InferenceService>(*board, worker_metrics, clock,
                                                 std::move(service_options));
    ticker.Add(board);
  }

  absl::Status Listen();
  absl::StatusOr<ShardPeer> NextPeer();
  absl::Status Lead();
  absl::Status Follow();
  pb::WorkerStatus ReadStatus() const;
  void SetReady(bool is_ready);
  void LogLoaded(const StageInfo& info) const;

  const WorkerOptions options;
  const KnownModel known;
  const std::unique_ptr<Tracer> tracer;
  Metrics& metrics;
  const SteadyClock clock;
  std::atomic<bool> ready = false;
  std::atomic<bool> draining = false;
  std::atomic<Engine*> engine_view = nullptr;

  Ticker ticker;
  WorkerMetrics worker_metrics;
  ShardHost host;
  const std::shared_ptr<StatusBoard> board;
  std::unique_ptr<InferenceService> service;
  ShardService shard_service;
  std::shared_ptr<Readiness> readiness;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<RpcServer> shard_server;
  std::unique_ptr<RpcServer> server;
};

absl::Status Worker::Parts::Listen() {
  ServiceOptions main_options = options.service;
  std::vector<std::string> health = {kInferenceHealth};
  if (!known.place.leads()) {
    health = {kShardHealth};
    ServiceOptions shard_options = options.service;
    shard_options.listen = options.shard_listen;
    shard_options.admin_listen.clear();
    shard_options.port_file.clear();
    YANGTUO_ASSIGN_OR_RETURN(shard_server,
                             RpcServer::Start(shard_options, {&shard_service}, health, metrics));
    main_options.other_ports["shard"] = shard_server->port();
  }
  YANGTUO_ASSIGN_OR_RETURN(server,
                           RpcServer::Start(main_options, {service.get()}, health, metrics));
  Log(LogLevel::kInfo, "listening",
      {{"grpc_port", std::int64_t{server->port()}},
       {"admin_port", std::int64_t{server->admin_port()}},
       {"shard_port", std::int64_t{shard_server == nullptr ? 0 : shard_server->port()}}});
  return absl::OkStatus();
}

absl::StatusOr<ShardPeer> Worker::Parts::NextPeer() {
  ShardPeer peer;
  peer.address = known.next;
  YANGTUO_ASSIGN_OR_RETURN(peer.channel, CreateChannel(known.next, options.service.peer_tls));
  peer.expected = ExpectedNext(known);
  peer.own_rank = known.place.index;
  peer.timing = options.shard_timing;
  peer.ticker = &ticker;
  return peer;
}

absl::Status Worker::Parts::Lead() {
  std::unique_ptr<Stage> next;
  std::shared_ptr<const ShardPresence> presence;
  if (!known.next.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const ShardPeer peer, NextPeer());
    YANGTUO_ASSIGN_OR_RETURN(
        std::unique_ptr<RemoteStage> remote,
        ConnectPatiently(known.next, [&peer] { return RemoteStage::Connect(peer); }));
    presence = remote->presence();
    worker_metrics.ReadShardUpFrom("next", [presence] { return presence->connected(); });
    next = std::move(remote);
  }
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<Stage> stage,
                           LoadLlamaStage(known.stage, std::move(next)));
  LogLoaded(stage->info());
  YANGTUO_ASSIGN_OR_RETURN(
      engine, Engine::Create(options.engine, std::move(stage), clock,
                             [this](const StepStats& s) { worker_metrics.ObserveStep(s); }));
  engine_view.store(engine.get());
  worker_metrics.ReadLoadFrom([this] { return engine->load(); });
  const LlamaConfig& config = known.identity.config;
  service->Serve(*engine, {.stage = engine->stage_info(),
                           .eos_ids = config.eos_ids,
                           .constraints = known.stage.constraints});
  Readiness::Options ready_options;
  ready_options.probe_token =
      config.bos_id >= 0 && config.bos_id < config.vocab ? config.bos_id : 0;
  ready_options.next = presence;
  ready_options.on_change = [this](bool is_ready) { SetReady(is_ready); };
  readiness = std::make_shared<Readiness>(*engine, clock, std::move(ready_options));
  ticker.Add(readiness);
  return absl::OkStatus();
}

absl::Status Worker::Parts::Follow() {
  std::unique_ptr<RelayStage> next;
  RelayStage* relay = nullptr;
  if (!known.next.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const ShardPeer peer, NextPeer());
    YANGTUO_ASSIGN_OR_RETURN(
        next, ConnectPatiently(known.next, [&peer] { return RelayStage::Describe(peer); }));
    relay = next.get();
  }
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<Stage> stage,
                           LoadLlamaStage(known.stage, std::move(next)));
  LogLoaded(stage->info());
  worker_metrics.ReadShardUpFrom("previous", [this] { return host.state().connected; });
  host.Serve(std::move(stage), {.last_layer = known.place.layers.last, .relay = relay});
  SetReady(true);
  return absl::OkStatus();
}

pb::WorkerStatus Worker::Parts::ReadStatus() const {
  const LlamaConfig& config = known.identity.config;
  pb::WorkerStatus status;
  status.set_model(known.name);
  status.set_model_digest(known.identity.digest);
  status.set_numerics_id(NumericsId(known.identity.digest, known.identity.numerics));
  status.set_tokenizer_digest(known.tokenizer_digest);
  status.set_weight_type(known.identity.weight_type);
  status.set_context_tokens(static_cast<std::uint32_t>(
      known.stage.context_tokens > 0 ? known.stage.context_tokens : config.context_tokens));
  status.set_vocabulary_size(static_cast<std::uint32_t>(config.vocab));
  status.set_hidden_size(static_cast<std::uint32_t>(config.hidden));
  status.set_num_layers(static_cast<std::uint32_t>(config.layers));
  status.set_shard_index(static_cast<std::uint32_t>(known.place.index));
  status.set_num_shards(static_cast<std::uint32_t>(known.place.shards));
  status.set_ready(ready.load() && !draining.load());
  status.set_draining(draining.load());
  if (const ShardHost::State state = host.state(); state.loaded) {
    const int index = options.shard.empty() ? state.rank : known.place.index;
    status.set_shard_index(static_cast<std::uint32_t>(index));
    status.set_num_shards(static_cast<std::uint32_t>(index + state.depth));
  }
  if (const Engine* leading = engine_view.load()) {
    const StageInfo& info = leading->stage_info();
    const EngineLoad load = leading->load();
    status.set_num_shards(static_cast<std::uint32_t>(info.depth));
    status.set_context_tokens(static_cast<std::uint32_t>(info.context_tokens));
    pb::WorkerLoad* out = status.mutable_load();
    out->set_running(static_cast<std::uint32_t>(load.running));
    out->set_waiting(static_cast<std::uint32_t>(load.waiting));
    out->set_kv_blocks_total(static_cast<std::uint32_t>(load.kv_blocks_total));
    out->set_kv_blocks_free(static_cast<std::uint32_t>(load.kv_blocks_free));
    out->set_tokens_per_second(static_cast<float>(load.tokens_per_second));
    out->set_pending_prompt_tokens(static_cast<std::uint32_t>(load.pending_prompt_tokens));
    out->set_kv_blocks_cached(static_cast<std::uint32_t>(load.kv_blocks_cached));
    if (const auto& scheme = leading->prefix_scheme(); scheme.has_value()) {
      *status.mutable_prefix_scheme() = ToProto(*scheme);
    }
  }
  return status;
}

void Worker::Parts::SetReady(bool is_ready) {
  ready.store(is_ready);
  const char* name = known.place.leads() ? kInferenceHealth : kShardHealth;
  const bool serving = is_ready && !draining.load();
  server->SetServing(name, serving);
  if (shard_server != nullptr) {
    shard_server->SetServing(name, serving);
  }
  if (!draining.load()) {
    Log(is_ready ? LogLevel::kInfo : LogLevel::kWarning, is_ready ? "ready" : "not ready");
  }
}

void Worker::Parts::LogLoaded(const StageInfo& info) const {
  Log(LogLevel::kInfo, "model loaded",
      {{"model", known.name},
       {"weight_type", info.weight_type},
       {"numerics", info.numerics},
       {"layers", absl::StrFormat("%d:%d of %d", known.place.layers.first, known.place.layers.last,
                                  info.num_layers)},
       {"shards_from_here", std::int64_t{info.depth}},
       {"threads", std::int64_t{known.stage.threads > 0 ? known.stage.threads
                                                        : GetCpuLimits().compute_threads()}},
       {"kv_blocks", std::int64_t{info.kv_blocks}},
       {"context", std::int64_t{info.context_tokens}},
       {"memory_mb", PeakMemoryMegabytes()}});
  if (!info.packed_weights.empty()) {
    Log(LogLevel::kInfo, "packed weights", {{"outcome", info.packed_weights}});
  }
  if (info.weights_error > 0.0) {
    Log(LogLevel::kInfo, "weights quantized as they were loaded",
        {{"weight_type", info.weight_type},
         {"relative_rms_error", info.weights_error},
         {"measured_on", "one row in 16"},
         {"avoided_by", known.stage.model.extension() == ".gguf" && info.weight_type != "gguf"
                            ? "--weight-type gguf"
                            : "yangtuo quantize"}});
  }
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const WorkerOptions& options,
                                                      Metrics& metrics) {
  Log(LogLevel::kInfo, "machine", {{"cpu", Describe(GetCpuLimits(), GetCpuFeatures())}});
  YANGTUO_ASSIGN_OR_RETURN(KnownModel known, Identify(options));
  YANGTUO_ASSIGN_OR_RETURN(auto tracer,
                           Tracer::Start(options.service.tracing, "yangtuo-worker", metrics));
  std::unique_ptr<Worker> worker(
      new Worker(std::make_unique<Parts>(options, std::move(known), std::move(tracer), metrics)));
  Parts& parts = *worker->parts_;
  YANGTUO_RETURN_IF_ERROR(parts.Listen());
  YANGTUO_RETURN_IF_ERROR(parts.known.place.leads() ? parts.Lead() : parts.Follow());
  return worker;
}

Worker::Worker(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Worker::~Worker() {
  parts_->ticker.Stop();
  parts_->engine_view.store(nullptr);
  // The servers' calls and the admin port use the engine; the engine's last words go to calls.
  if (parts_->engine != nullptr) {
    parts_->engine->StopAccepting();
    parts_->service->CancelAll();
  }
  parts_->server.reset();
  parts_->shard_server.reset();
  parts_->engine.reset();
}

int Worker::port() const { return parts_->server->port(); }

int Worker::shard_port() const {
  return parts_->shard_server == nullptr ? 0 : parts_->shard_server->port();
}

bool Worker::ready() const { return parts_->ready.load() && !parts_->draining.load(); }

void Worker::Drain(Duration limit) {
  const TimePoint deadline = parts_->clock.Now() + limit;
  const bool was_ready = parts_->ready.load();
  parts_->draining.store(true);
  parts_->SetReady(was_ready);  // SERVING no more
  parts_->service->NoteDraining();
  if (parts_->engine != nullptr) {
    parts_->engine->StopAccepting();
    if (!parts_->engine->WaitUntilIdle(deadline)) {
      Log(LogLevel::kWarning, "drain limit reached, cancelling what still runs");
      parts_->service->CancelAll();
      parts_->engine->WaitUntilIdle(parts_->clock.Now() + kCallsEnd);
    }
  } else {
    parts_->host.Drain(kShardQuiet, deadline);
  }
  parts_->board->Close(
      WithReason(absl::UnavailableError("the worker is shutting down"), "DRAINING"));
  parts_->server->Drain(kCallsEnd);
  if (parts_->shard_server != nullptr) {
    parts_->shard_server->Drain(kCallsEnd);
  }
}

}  // namespace yangtuo
