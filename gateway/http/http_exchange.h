#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "gateway/http/http_message.h"
#include "inference_core/base/mutex.h"

namespace yangtuo::gateway {

// The answer to one request, between whoever makes it and the connection that carries it. Both
// share it; thread-safe. An answer is either one Respond, or one Begin, any number of Sends, one
// End. What comes after the client left is dropped.
class HttpExchange {
 public:
  // --- for the maker of the answer
  // What `headers` returns goes into the answer's head when that is made. Before all others, once.
  void AddToHead(std::function<HttpRequest::Headers()> headers) ABSL_LOCKS_EXCLUDED(mutex_);
  void Respond(HttpResponse response) ABSL_LOCKS_EXCLUDED(mutex_);
  // The head of an answer whose body comes in pieces; `head.body` is the first of them.
  void Begin(HttpResponse head) ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the bytes that wait for the client now.
  std::size_t Send(std::string_view bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets the pieces that wait, so that something more urgent can be sent.
  void DropUnsent() ABSL_LOCKS_EXCLUDED(mutex_);
  void End() ABSL_LOCKS_EXCLUDED(mutex_);
  // `gone` runs once if the client leaves before the answer is complete, at once if it has left. It
  // must not block and may run on any thread.
  void OnGone(std::function<void()> gone) ABSL_LOCKS_EXCLUDED(mutex_);

  // --- for the connection
  struct Outgoing {
    std::optional<HttpResponse> head{};
    bool in_pieces = false;  // of the head: its length is not known
    std::string bytes{};
    bool ended = false;
  };
  // `wake` runs whenever there is something to take; it must only hand the news over.
  explicit HttpExchange(std::function<void()> wake) : wake_(std::move(wake)) {}
  [[nodiscard]] Outgoing Take() ABSL_LOCKS_EXCLUDED(mutex_);
  // The connection is done with it: complete, or the client left.
  void Detach() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  [[nodiscard]] HttpResponse Completed(HttpResponse head) ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);  // null: detached
  std::function<void()> gone_ ABSL_GUARDED_BY(mutex_);
  std::function<HttpRequest::Headers()> more_headers_ ABSL_GUARDED_BY(mutex_);
  Outgoing waiting_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace yangtuo::gateway
