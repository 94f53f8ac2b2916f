#pragma once

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"
#include "boost/asio/ssl/stream.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http.hpp"
#include "inference_core/base/mutex.h"

namespace yangtuo {

// An OTLP/HTTP collector on a loopback port: keeps the bodies, answers as it is told, one
// connection after the other.
class FakeCollector {
 public:
  struct Answer {
    unsigned status = 200;
    std::string body = "{}";
    bool silent = false;  // reads the request, then nothing until the client gives up
  };

  // With certificate and key: TLS.
  explicit FakeCollector(const std::string& cert_file = "", const std::string& key_file = "")
      : acceptor_(io_, {boost::asio::ip::make_address("127.0.0.1"), 0}),
        tls_(boost::asio::ssl::context::tls_server),
        use_tls_(!cert_file.empty()) {
    if (use_tls_) {
      tls_.use_certificate_chain_file(cert_file);
      tls_.use_private_key_file(key_file, boost::asio::ssl::context::pem);
    }
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeCollector() {
    {
      const MutexLock lock(mutex_);
      ending_ = true;
    }
    boost::asio::io_context io;
    boost::asio::ip::tcp::socket wake(io);
    boost::system::error_code ignored;
    wake.connect(acceptor_.local_endpoint(), ignored);
    wake.close(ignored);
    thread_.join();
  }
  FakeCollector(const FakeCollector&) = delete;
  FakeCollector& operator=(const FakeCollector&) = delete;

  [[nodiscard]] std::string url(const char* host = "127.0.0.1") const {
    return absl::StrCat(use_tls_ ? "https://" : "http://", host, ":",
                        acceptor_.local_endpoint().port());
  }

  // What the next requests are answered; the last one stays.
  void Plan(std::vector<Answer> answers) {
    const MutexLock lock(mutex_);
    answers_ = std::move(answers);
  }
  [[nodiscard]] std::vector<std::string> bodies() {
    const MutexLock lock(mutex_);
    return bodies_;
  }
  [[nodiscard]] std::string head() {
    const MutexLock lock(mutex_);
    return head_;
  }

 private:
  void Run() {
    while (true) {
      boost::asio::ip::tcp::socket socket(io_);
      boost::system::error_code error;
      acceptor_.accept(socket, error);
      {
        const MutexLock lock(mutex_);
        if (ending_) {
          return;
        }
      }
      if (use_tls_) {
        boost::asio::ssl::stream<boost::asio::ip::tcp::socket> stream(std::move(socket), tls_);
        stream.handshake(boost::asio::ssl::stream_base::server, error);
        if (!error) {
          Serve(stream);
        }
      } else {
        Serve(socket);
      }
    }
  }

  template <typename Stream>
  void Serve(Stream& stream) {
    namespace http = boost::beast::http;
    boost::beast::flat_buffer buffer;
    http::request<http::string_body> request;
    boost::system::error_code error;
    http::read(stream, buffer, request, error);
    if (error) {
      return;
    }
    const Answer answer = Take(request);
    if (answer.silent) {
      char byte = 0;
      stream.read_some(boost::asio::buffer(&byte, 1), error);  // until the client closes
      return;
    }
    http::response<http::string_body> response(http::int_to_status(answer.status), 11);
    response.body() = answer.body;
    response.prepare_payload();
    http::write(stream, response, error);
  }

  Answer Take(const boost::beast::http::request<boost::beast::http::string_body>& request) {
    const MutexLock lock(mutex_);
    bodies_.push_back(request.body());
    head_ = absl::StrCat(std::string(request.method_string()), " ", std::string(request.target()),
                         " ", std::string(request[boost::beast::http::field::content_type]));
    Answer answer;
    if (!answers_.empty()) {
      answer = answers_.front();
      if (answers_.size() > 1) {
        answers_.erase(answers_.begin());
      }
    }
    return answer;
  }

  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::ssl::context tls_;
  const bool use_tls_;
  Mutex mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> bodies_ ABSL_GUARDED_BY(mutex_);
  std::string head_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace yangtuo
