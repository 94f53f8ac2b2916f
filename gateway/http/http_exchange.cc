#include "gateway/http/http_exchange.h"

#include <utility>

namespace yangtuo::gateway {

void HttpExchange::AddToHead(std::function<HttpRequest::Headers()> headers) {
  const MutexLock lock(mutex_);
  more_headers_ = std::move(headers);
}

HttpResponse HttpExchange::Completed(HttpResponse head) {
  std::function<HttpRequest::Headers()> more;
  {
    const MutexLock lock(mutex_);
    more = std::exchange(more_headers_, nullptr);
  }
  if (more != nullptr) {
    for (auto& header : more()) {
      head.headers.push_back(std::move(header));
    }
  }
  return head;
}

void HttpExchange::Respond(HttpResponse response) {
  response = Completed(std::move(response));
  {
    const MutexLock lock(mutex_);
    if (wake_ == nullptr || ended_) {
      return;
    }
    waiting_.head = std::move(response);
    waiting_.ended = ended_ = true;
    gone_ = nullptr;
  }
  Wake();
}

void HttpExchange::Begin(HttpResponse head) {
  head = Completed(std::move(head));
  {
    const MutexLock lock(mutex_);
    if (wake_ == nullptr || ended_) {
      return;
    }
    waiting_.bytes = std::exchange(head.body, {});
    waiting_.head = std::move(head);
    waiting_.in_pieces = true;
  }
  Wake();
}

std::size_t HttpExchange::Send(std::string_view bytes) {
  std::size_t size = 0;
  {
    const MutexLock lock(mutex_);
    if (wake_ == nullptr || ended_) {
      return 0;
    }
    waiting_.bytes += bytes;
    size = waiting_.bytes.size();
  }
  Wake();
  return size;
}

void HttpExchange::DropUnsent() {
  const MutexLock lock(mutex_);
  waiting_.bytes.clear();
}

void HttpExchange::End() {
  {
    const MutexLock lock(mutex_);
    if (wake_ == nullptr || ended_) {
      return;
    }
    waiting_.ended = ended_ = true;
    gone_ = nullptr;
  }
  Wake();
}

void HttpExchange::OnGone(std::function<void()> gone) {
  {
    const MutexLock lock(mutex_);
    if (ended_) {
      return;
    }
    if (wake_ != nullptr) {
      gone_ = std::move(gone);
      return;
    }
  }
  gone();
}

HttpExchange::Outgoing HttpExchange::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(waiting_, {});
}

void HttpExchange::Detach() {
  std::function<void()> gone;
  {
    const MutexLock lock(mutex_);
    wake_ = nullptr;
    gone = std::exchange(gone_, nullptr);
  }
  if (gone != nullptr) {
    gone();
  }
}

void HttpExchange::Wake() {
  // Under the lock, so that the connection's executor lives: it is detached before that ends.
  const MutexLock lock(mutex_);
  if (wake_ != nullptr) {
    wake_();
  }
}

}  // namespace yangtuo::gateway
