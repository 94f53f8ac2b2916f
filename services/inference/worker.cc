#include "services/inference/worker.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/vocabulary.h"
#include "services/common/channel.h"
#include "services/common/log.h"
#include "services/common/rpc_server.h"
#include "services/common/status.h"
#include "services/inference/inference_service.h"
#include "services/inference/relay_stage.h"
#include "services/inference/remote_stage.h"
#include "services/inference/shard_host.h"
#include "services/inference/shard_service.h"
#include "services/inference/status_board.h"
#include "services/inference/ticker.h"
#include "services/inference/worker_metrics.h"

namespace yangtuo {
namespace {

constexpr char kInferenceHealth[] = "yangtuo.internal.v1.InferenceService";
constexpr char kShardHealth[] = "yangtuo.internal.v1.ShardService";
// Between attempts to reach the next shard, and between log lines about it.
constexpr Duration kAttemptPause = std::chrono::milliseconds(250);
// A draining shard whose group sent no step for this long is not needed any more.
constexpr Duration kShardQuiet = std::chrono::seconds(1);
constexpr Duration kLogEvery = std::chrono::seconds(5);

// What the tokenizer beside a model says of itself; empty when there is none.
struct TokenizerFacts {
  std::string digest;
  std::string chat_template;
};

std::string PairingHint(std::int32_t tokenizer_size) {
  switch (tokenizer_size) {
    case 49953:
      return "; 49953 pieces are Chinese-LLaMA's tokenizer";
    case 49954:
      return "; 49954 pieces are Chinese-Alpaca's tokenizer";
    case 55296:
      return "; 55296 pieces are the tokenizer of Chinese-LLaMA-2 and Chinese-Alpaca-2";
    case 32000:
      return "; 32000 pieces are the original LLaMA tokenizer";
    default:
      return "";
  }
}

// A tokenizer with more pieces than the embedding has rows makes ids that the model does not know.
// Fewer is normal: embeddings are often padded.
absl::StatusOr<TokenizerFacts> CheckTokenizer(const std::filesystem::path& model,
                                              std::int32_t vocab) {
  const std::filesystem::path file = model / "tokenizer.model";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    return TokenizerFacts{};
  }
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream content;
  content << stream.rdbuf();
  if (!stream) {
    return absl::NotFoundError(absl::StrFormat("%s cannot be read", file.string()));
  }
  YANGTUO_ASSIGN_OR_RETURN(const Vocabulary pieces,
                           Vocabulary::Parse(content.str(), file.string()));
  if (pieces.size() > vocab) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s has %d pieces, but the model's embedding has %d rows: the tokenizer belongs to another "
        "model%s. Put the tokenizer.model that was published with these weights beside them",
        file.string(), pieces.size(), vocab, PairingHint(pieces.size())));
  }
  return TokenizerFacts{.digest = pieces.digest(), .chat_template = {}};
}

// Calls `attempt` until it succeeds or fails for a reason that waiting does not mend.
template <typename T, typename Attempt>
absl::StatusOr<T> WaitForNextShard(const std::string& address, const Attempt& attempt) {
  TimePoint last_logged{};
  for (;;) {
    absl::StatusOr<T> result = attempt();
    if (result.ok() || !absl::IsUnavailable(result.status())) {
      return result;
    }
    const TimePoint now = std::chrono::steady_clock::now();
    if (now - last_logged >= kLogEvery) {
      last_logged = now;
      Log(LogLevel::kInfo, "waiting for the next shard",
          {{"address", address}, {"reason", std::string(result.status().message())}});
    }
    std::this_thread::sleep_for(kAttemptPause);
  }
}

}  // namespace

// The way from the ticker's thread to the worker, closed before the worker ends.
class Worker::Door final : public Ticking {
 public:
  explicit Door(State& state) : state_(&state) {}

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    state_ = nullptr;
  }
  [[nodiscard]] internal::v1::WorkerStatus Status() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnTick(TimePoint now) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  State* state_ ABSL_GUARDED_BY(mutex_);
};

// Destroyed from the last member to the first.
struct Worker::State {
  State(const WorkerOptions& worker_options, ModelIdentity model_identity, const LayerRange& layers,
        TokenizerFacts tokenizer_facts, Metrics& all_metrics)
      : options(worker_options),
        identity(std::move(model_identity)),
        range(layers),
        tokenizer(std::move(tokenizer_facts)),
        registry(all_metrics),
        metrics(all_metrics),
        door(std::make_shared<Door>(*this)),
        board(std::make_shared<StatusBoard>([open = door] { return open->Status(); })),
        service(*board, metrics, clock, {.refusal = Refusal()}),
        shard_service(host, ticker, options.timing) {}

  ~State() {
    // No call is left after the servers; then nothing else comes in through the door.
    server.reset();
    shard_server.reset();
    door->Close();
  }

  [[nodiscard]] bool leads() const { return range.first == 0; }
  [[nodiscard]] bool is_last() const { return range.last == identity.config.layers; }
  [[nodiscard]] const char* health_name() const {
    return leads() ? kInferenceHealth : kShardHealth;
  }

  [[nodiscard]] absl::Status Refusal() const {
    if (leads()) {
      return WithReason(absl::UnavailableError("the model is still loading"), "LOADING");
    }
    return WithReason(
        absl::FailedPreconditionError(absl::StrFormat(
            "this worker holds layers %d to %d of %d and does not lead its group: ask the worker "
            "with layer 0",
            range.first, range.last - 1, identity.config.layers)),
        "NOT_THE_LEADER");
  }

  [[nodiscard]] bool IsReady() const {
    if (draining.load()) {
      return false;
    }
    if (!leads()) {
      return host.state().loaded;
    }
    const Engine* leading = engine_ready.load();
    return leading != nullptr && leading->load().stage_ok &&
           (presence == nullptr || presence->connected());
  }

  [[nodiscard]] internal::v1::WorkerStatus Status() const;
  void ShowReadiness();
  absl::Status Listen();
  absl::Status Load();
  absl::Status LoadLeader(const StageOptions& stage_options);
  absl::Status LoadShard(const StageOptions& stage_options);
  [[nodiscard]] absl::StatusOr<ShardPeer> NextShard();

  const WorkerOptions options;
  const ModelIdentity identity;
  const LayerRange range;
  const TokenizerFacts tokenizer;
  const SteadyClock clock;
  std::atomic<bool> draining = false;
  std::atomic<bool> loaded = false;  // and the servers are there
  Metrics& registry;
  WorkerMetrics metrics;
  Ticker ticker;
  // The leader's; set before engine_ready.
  std::shared_ptr<const ShardPresence> presence;
  std::unique_ptr<Engine> engine;
  std::atomic<const Engine*> engine_ready = nullptr;
  ShardHost host;
  const std::shared_ptr<Door> door;
  const std::shared_ptr<StatusBoard> board;
  InferenceService service;
  ShardService shard_service;
  std::unique_ptr<RpcServer> shard_server;  // of all but the leader
  std::unique_ptr<RpcServer> server;
};

internal::v1::WorkerStatus Worker::State::Status() const {
  internal::v1::WorkerStatus status;
  status.set_model(PublicModelName(options));
  status.set_model_digest(identity.digest);
  status.set_numerics_id(NumericsId(identity.digest, identity.numerics));
  status.set_tokenizer_digest(tokenizer.digest);
  status.set_weight_type(identity.weight_type);
  const std::int32_t context =
      options.context_tokens > 0 ? options.context_tokens : identity.config.context_tokens;
  status.set_context_tokens(static_cast<std::uint32_t>(context));
  status.set_vocabulary_size(static_cast<std::uint32_t>(identity.config.vocab));
  status.set_hidden_size(static_cast<std::uint32_t>(identity.config.hidden));
  status.set_num_layers(static_cast<std::uint32_t>(identity.config.layers));
  status.set_chat_template(tokenizer.chat_template);
  status.set_ready(IsReady());
  status.set_draining(draining.load());
  status.set_num_shards(1);
  if (!leads()) {
    const ShardHost::State shard = host.state();
    status.set_shard_index(static_cast<std::uint32_t>(shard.rank));
    status.set_num_shards(static_cast<std::uint32_t>(shard.rank + shard.depth));
    return status;
  }
  if (const Engine* leading = engine_ready.load(); leading != nullptr) {
    const EngineLoad load = leading->load();
    status.set_num_shards(static_cast<std::uint32_t>(leading->stage_info().depth));
    internal::v1::WorkerLoad& shown = *status.mutable_load();
    shown.set_running(static_cast<std::uint32_t>(load.running));
    shown.set_waiting(static_cast<std::uint32_t>(load.waiting));
    shown.set_kv_blocks_total(static_cast<std::uint32_t>(load.kv_blocks_total));
    shown.set_kv_blocks_free(static_cast<std::uint32_t>(load.kv_blocks_free));
    shown.set_tokens_per_second(static_cast<float>(load.tokens_per_second));
    shown.set_pending_prompt_tokens(static_cast<std::uint32_t>(load.pending_prompt_tokens));
  }
  return status;
}

internal::v1::WorkerStatus Worker::Door::Status() {
  const MutexLock lock(mutex_);
  return state_ != nullptr ? state_->Status() : internal::v1::WorkerStatus();
}

void Worker::Door::OnTick(TimePoint /*now*/) {
  const MutexLock lock(mutex_);
  if (state_ != nullptr) {
    state_->ShowReadiness();
  }
}

void Worker::State::ShowReadiness() {
  if (!draining.load() && loaded.load()) {
    server->SetServing(health_name(), IsReady());
  }
}

absl::Status Worker::State::Listen() {
  ServiceOptions main_port = options.service;
  if (!leads()) {
    ServiceOptions shard_port = options.service;
    shard_port.listen = options.shard_listen;
    shard_port.admin_listen.clear();
    shard_port.port_file.clear();
    YANGTUO_ASSIGN_OR_RETURN(
        shard_server, RpcServer::Start(shard_port, {&shard_service}, {kShardHealth}, registry));
    main_port.other_ports["shard"] = shard_server->port();
  }
  YANGTUO_ASSIGN_OR_RETURN(server,
                           RpcServer::Start(main_port, {&service}, {health_name()}, registry));
  return absl::OkStatus();
}

absl::StatusOr<ShardPeer> Worker::State::NextShard() {
  YANGTUO_ASSIGN_OR_RETURN(auto channel, CreateChannel(options.next, options.service.peer_tls));
  StageInfo expected;
  expected.model_digest = identity.digest;
  expected.numerics = identity.numerics;
  expected.weight_type = identity.weight_type;
  expected.first_layer = range.last;
  expected.num_layers = identity.config.layers;
  expected.hidden = identity.config.hidden;
  expected.vocab = identity.config.vocab;
  expected.context_tokens =
      options.context_tokens > 0 ? options.context_tokens : identity.config.context_tokens;
  expected.kv_block_size = kKvBlockSize;
  expected.max_step_tokens = options.engine.step_tokens;
  return ShardPeer{.address = options.next,
                   .channel = std::move(channel),
                   .expected = std::move(expected),
                   .own_rank = 0,
                   .timing = options.timing,
                   .ticker = &ticker};
}

absl::Status Worker::State::LoadLeader(const StageOptions& stage_options) {
  std::unique_ptr<Stage> next;
  if (!is_last()) {
    YANGTUO_ASSIGN_OR_RETURN(const ShardPeer peer, NextShard());
    YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<RemoteStage> remote,
                             WaitForNextShard<std::unique_ptr<RemoteStage>>(
                                 peer.address, [&] { return RemoteStage::Connect(peer); }));
    presence = remote->presence();
    metrics.ReadShardUpFrom("next", [seen = presence] { return seen->connected(); });
    next = std::move(remote);
  }
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<Stage> stage,
                           LoadLlamaStage(stage_options, std::move(next)));
  YANGTUO_ASSIGN_OR_RETURN(
      engine, Engine::Create(options.engine, std::move(stage), clock,
                             [this](const StepStats& step) { metrics.ObserveStep(step); }));
  metrics.ReadLoadFrom([leading = engine.get()] { return leading->load(); });
  service.Serve(*engine, {.stage = engine->stage_info(), .eos_ids = identity.config.eos_ids});
  engine_ready.store(engine.get());
  return absl::OkStatus();
}

absl::Status Worker::State::LoadShard(const StageOptions& stage_options) {
  std::unique_ptr<RelayStage> relay;
  if (!is_last()) {
    YANGTUO_ASSIGN_OR_RETURN(const ShardPeer peer, NextShard());
    YANGTUO_ASSIGN_OR_RETURN(relay, WaitForNextShard<std::unique_ptr<RelayStage>>(
                                        peer.address, [&] { return RelayStage::Describe(peer); }));
  }
  RelayStage* const link = relay.get();
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<Stage> stage,
                           LoadLlamaStage(stage_options, std::move(relay)));
  metrics.ReadShardUpFrom("previous", [this] { return host.state().connected; });
  host.Serve(std::move(stage), {.last_layer = range.last, .relay = link});
  shard_server->SetServing(kShardHealth, true);
  return absl::OkStatus();
}

absl::Status Worker::State::Load() {
  const StageOptions stage_options{.model = options.model,
                                   .first_layer = range.first,
                                   .last_layer = range.last,
                                   .weight_type = options.weight_type,
                                   .context_tokens = options.context_tokens,
                                   .kv_blocks = options.kv_blocks,
                                   .kv_memory_bytes = options.kv_memory_bytes,
                                   .max_step_tokens = options.engine.step_tokens,
                                   .threads = options.threads};
  const TimePoint start = clock.Now();
  YANGTUO_RETURN_IF_ERROR(leads() ? LoadLeader(stage_options) : LoadShard(stage_options));
  loaded.store(true);
  ShowReadiness();
  const std::int64_t kv_blocks = leads() ? engine->load().kv_blocks_total : host.state().kv_blocks;
  Log(LogLevel::kInfo, "model loaded",
      {{"model", PublicModelName(options)},
       {"layers",
        absl::StrFormat("%d..%d of %d", range.first, range.last - 1, identity.config.layers)},
       {"weights", identity.weight_type},
       {"kv_blocks", kv_blocks},
       {"kv_positions", kv_blocks * kKvBlockSize},
       {"shards", std::int64_t{leads() ? engine->stage_info().depth : 0}},
       {"seconds", ToSeconds(clock.Now() - start)},
       {"numerics", identity.numerics}});
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RunningService>> Worker::Start(const WorkerOptions& options,
                                                              Metrics& metrics) {
  StageOptions whole{.model = options.model};
  whole.weight_type = options.weight_type;
  whole.context_tokens = options.context_tokens;
  whole.max_step_tokens = options.engine.step_tokens;
  whole.threads = options.threads;
  Log(LogLevel::kInfo, "worker starts",
      {{"machine", Describe(GetCpuLimits(), GetCpuFeatures())},
       {"threads",
        std::int64_t{options.threads > 0 ? options.threads : GetCpuLimits().compute_threads()}}});
  YANGTUO_ASSIGN_OR_RETURN(ModelIdentity identity, IdentifyModel(whole));
  YANGTUO_ASSIGN_OR_RETURN(const LayerRange range, LayersOf(options, identity.config.layers));
  YANGTUO_ASSIGN_OR_RETURN(TokenizerFacts tokenizer,
                           CheckTokenizer(options.model, identity.config.vocab));
  auto state =
      std::make_unique<State>(options, std::move(identity), range, std::move(tokenizer), metrics);
  YANGTUO_RETURN_IF_ERROR(state->Listen());
  state->ticker.Add(state->board);
  state->ticker.Add(state->door);
  YANGTUO_RETURN_IF_ERROR(state->Load());
  return std::make_unique<Worker>(std::move(state));
}

Worker::Worker(std::unique_ptr<State> state) : state_(std::move(state)) {}
Worker::~Worker() = default;

void Worker::Drain(Duration limit) {
  state_->draining.store(true);
  state_->server->SetServing(state_->health_name(), false);
  state_->service.NoteDraining();
  const TimePoint deadline = state_->clock.Now() + limit;
  if (state_->engine != nullptr) {
    state_->engine->StopAccepting();
  } else {
    state_->host.Drain(kShardQuiet, deadline);
  }
  state_->server->Drain(limit);
  if (state_->shard_server != nullptr) {
    state_->shard_server->Drain(std::max(deadline - state_->clock.Now(), Duration::zero()));
  }
}

}  // namespace yangtuo
