#include "services/common/tracer.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/build_info.h"
#include "services/common/span_exporter.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

// Names of models come from requests.
constexpr std::size_t kMaxTextBytes = 256;

std::uint64_t UnixNanoseconds(std::chrono::system_clock::time_point time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

std::uint64_t Nanoseconds(Duration duration) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count());
}

// Wall-clock time of a moment of the monotonic clock.
std::uint64_t UnixNanoseconds(TimePoint time) {
  const auto ago = std::chrono::steady_clock::now() - time;
  return UnixNanoseconds(std::chrono::system_clock::now() -
                         std::chrono::duration_cast<std::chrono::system_clock::duration>(ago));
}

SpanData PartOf(const TraceContext& parent, std::string name, TimePoint begin, TimePoint end) {
  SpanData data{.context = parent,
                .parent = parent.span_id,
                .name = std::move(name),
                .start_unix_ns = UnixNanoseconds(begin)};
  data.context.span_id = NewSpanId();
  data.end_unix_ns = data.start_unix_ns + Nanoseconds(std::max(end, begin) - begin);
  return data;
}

std::string Shortened(std::string text) {
  text.resize(std::min(text.size(), kMaxTextBytes));
  return text;
}

AttributeValue Shortened(AttributeValue value) {
  if (auto* text = std::get_if<std::string>(&value); text != nullptr) {
    *text = Shortened(std::move(*text));
  }
  return value;
}

// Whether a server's span failed; a client's failed with every error but its own wish. As
// OpenTelemetry's conventions for gRPC have it.
bool IsServersFault(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets variables
  return value == nullptr ? "" : value;
}

std::string HostName() {
  std::string name(256, '\0');
  if (gethostname(name.data(), name.size() - 1) != 0) {
    return "";
  }
  name.resize(name.find('\0'));
  return name;
}

absl::StatusOr<Attributes> ResourceOf(const TracingOptions& options,
                                      const std::string& service_name) {
  auto given = ParseResourceAttributes(options.resource_attributes);
  if (!given.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("OTEL_RESOURCE_ATTRIBUTES: %s", std::string(given.status().message())));
  }
  const std::string host = HostName();
  Attributes resource = {
      {"service.name", options.service_name.empty() ? service_name : options.service_name},
      {"service.version", std::string(ThisBuild().version)},
      {"service.instance.id", absl::StrFormat("%s-%s", host, ToHex(NewSpanId()))},
      {"host.name", host},
      {"process.pid", static_cast<std::int64_t>(getpid())}};
  for (auto& [key, value] : *given) {
    const auto same = std::find_if(resource.begin(), resource.end(),
                                   [&key = key](const auto& one) { return one.first == key; });
    // A name of its own variable or flag beats one among many.
    if (same == resource.end()) {
      resource.emplace_back(key, std::move(value));
    } else if (key != "service.name" || options.service_name.empty()) {
      same->second = std::move(value);
    }
  }
  return resource;
}

}  // namespace

struct Span::State {
  State(SpanExporter& spans, SpanData begun) : exporter(spans), data(std::move(begun)) {}
  ~State() { Finish(absl::OkStatus()); }

  void Finish(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex) {
    SpanData done;
    {
      const MutexLock lock(mutex);
      if (std::exchange(ended, true)) {
        return;
      }
      done = std::move(data);
    }
    if (!status.ok()) {
      const std::string reason = ReasonOf(status);
      const std::string code = absl::StatusCodeToString(status.code());
      done.attributes.emplace_back("error.type", reason.empty() ? code : reason);
      done.failed = done.kind == SpanKind::kClient ? !absl::IsCancelled(status)
                                                   : IsServersFault(status.code());
    }
    done.end_unix_ns = done.start_unix_ns + Nanoseconds(std::chrono::steady_clock::now() - began);
    exporter.Add(std::move(done));
  }

  SpanExporter& exporter;
  const TimePoint began = std::chrono::steady_clock::now();
  Mutex mutex;
  SpanData data ABSL_GUARDED_BY(mutex);
  bool ended ABSL_GUARDED_BY(mutex) = false;
};

TracingOptions TracingOptions::FromEnvironment() {
  TracingOptions options;
  options.endpoint = Variable("OTEL_EXPORTER_OTLP_ENDPOINT");
  options.ca_file = Variable("OTEL_EXPORTER_OTLP_CERTIFICATE");
  options.service_name = Variable("OTEL_SERVICE_NAME");
  options.resource_attributes = Variable("OTEL_RESOURCE_ATTRIBUTES");
  return options;
}

absl::Status CheckTracingOptions(const TracingOptions& options) {
  if (!(options.sample_ratio >= 0 && options.sample_ratio <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--otlp-sample-ratio is %g, must be in 0..1", options.sample_ratio));
  }
  if (options.endpoint.empty()) {
    return absl::OkStatus();
  }
  const auto endpoint = ParseOtlpEndpoint(options.endpoint);
  if (!endpoint.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--otlp-endpoint: %s", std::string(endpoint.status().message())));
  }
  YANGTUO_RETURN_IF_ERROR(OtlpClient::Create(*endpoint, options.ca_file).status());
  return ResourceOf(options, "").status();
}

void Span::SetName(std::string name) const {
  if (state_ != nullptr) {
    const MutexLock lock(state_->mutex);
    state_->data.name = Shortened(std::move(name));
  }
}

void Span::Set(std::string_view key, AttributeValue value) const {
  if (state_ == nullptr) {
    return;
  }
  const MutexLock lock(state_->mutex);
  Attributes& attributes = state_->data.attributes;
  const auto same = std::find_if(attributes.begin(), attributes.end(),
                                 [key](const auto& one) { return one.first == key; });
  if (same != attributes.end()) {
    same->second = Shortened(std::move(value));
  } else {
    attributes.emplace_back(std::string(key), Shortened(std::move(value)));
  }
}

Span Span::Child(std::string name, SpanKind kind) const {
  Span child;
  child.context_ = context_;
  if (state_ == nullptr) {
    return child;
  }
  child.context_->span_id = NewSpanId();
  SpanData data{.context = *child.context_,
                .parent = context_->span_id,
                .name = Shortened(std::move(name)),
                .kind = kind,
                .start_unix_ns = UnixNanoseconds(std::chrono::system_clock::now())};
  {
    const MutexLock lock(state_->mutex);
    data.tracestate = state_->data.tracestate;
  }
  child.state_ = std::make_shared<State>(state_->exporter, std::move(data));
  return child;
}

void Span::AddChild(std::string name, TimePoint begin, TimePoint end, Attributes attributes) const {
  if (state_ == nullptr) {
    return;
  }
  SpanData data = PartOf(*context_, std::move(name), begin, end);
  data.attributes = std::move(attributes);
  {
    const MutexLock lock(state_->mutex);
    data.tracestate = state_->data.tracestate;
  }
  state_->exporter.Add(std::move(data));
}

void Span::End(const absl::Status& status) const {
  if (state_ != nullptr) {
    state_->Finish(status);
  }
}

Tracer::Tracer() = default;
Tracer::~Tracer() = default;

Tracer::Tracer(double sample_ratio, std::unique_ptr<SpanExporter> exporter)
    : sample_ratio_(sample_ratio), exporter_(std::move(exporter)) {}

absl::StatusOr<std::unique_ptr<Tracer>> Tracer::Start(const TracingOptions& options,
                                                      const std::string& service_name,
                                                      Metrics& metrics) {
  YANGTUO_RETURN_IF_ERROR(CheckTracingOptions(options));
  if (options.endpoint.empty()) {
    return std::make_unique<Tracer>();
  }
  YANGTUO_ASSIGN_OR_RETURN(const OtlpEndpoint endpoint, ParseOtlpEndpoint(options.endpoint));
  YANGTUO_ASSIGN_OR_RETURN(auto client, OtlpClient::Create(endpoint, options.ca_file));
  SpanExporter::Options exporter_options;
  YANGTUO_ASSIGN_OR_RETURN(exporter_options.resource, ResourceOf(options, service_name));
  return std::unique_ptr<Tracer>(new Tracer(
      options.sample_ratio,
      std::make_unique<SpanExporter>(std::move(exporter_options), std::move(client), metrics)));
}

Span Tracer::Serve(const RequestContext& incoming, std::string name) const {
  Span span;
  const std::optional<TraceContext> parent = ParseTraceparent(incoming.traceparent);
  if (exporter_ == nullptr) {
    span.context_ = parent;
    return span;
  }
  TraceContext context = parent.value_or(TraceContext{});
  if (!parent.has_value()) {
    context.trace_id = NewTraceId();
    context.sampled = IsInSample(context.trace_id, sample_ratio_);
  }
  context.span_id = parent.has_value() && !parent->sampled ? parent->span_id : NewSpanId();
  span.context_ = context;
  if (!context.sampled) {
    return span;
  }
  SpanData data{.context = context,
                .name = Shortened(std::move(name)),
                .kind = SpanKind::kServer,
                .start_unix_ns = UnixNanoseconds(std::chrono::system_clock::now())};
  if (parent.has_value()) {
    data.parent = parent->span_id;
    data.tracestate = incoming.tracestate;
  }
  span.state_ = std::make_shared<Span::State>(*exporter_, std::move(data));
  return span;
}

void Tracer::AddPart(const TraceContext& parent, std::string name, TimePoint begin, TimePoint end,
                     Attributes attributes) const {
  if (exporter_ == nullptr || !parent.sampled) {
    return;
  }
  SpanData data = PartOf(parent, std::move(name), begin, end);
  data.attributes = std::move(attributes);
  exporter_->Add(std::move(data));
}

RequestContext ContextWithin(const RequestContext& incoming, const Span& span) {
  RequestContext context = incoming;
  if (!span.context().has_value()) {
    context.traceparent.clear();
    context.tracestate.clear();
    return context;
  }
  if (!ParseTraceparent(incoming.traceparent).has_value()) {
    context.tracestate.clear();  // of a trace that was not understood
  }
  context.traceparent = ToTraceparent(*span.context());
  return context;
}

}  // namespace yangtuo
