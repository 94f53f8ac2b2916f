#pragma once

#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/write.hpp"

namespace yangtuo::testing {

// Bytes in, bytes out on one TCP connection to loopback, so that a test can send what no real
// client would.
class RawClient {
 public:
  explicit RawClient(int port) : socket_(io_) {
    socket_.connect({boost::asio::ip::address_v4::loopback(), static_cast<std::uint16_t>(port)});
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }

  // False when the server has closed the connection.
  bool Send(std::string_view bytes) {
    boost::system::error_code error;
    boost::asio::write(socket_, boost::asio::buffer(bytes.data(), bytes.size()), error);
    return !error;
  }

  // Everything up to and including `end`; what there was when the server closed instead.
  std::string ReadUntil(std::string_view end) {
    while (received_.find(end) == std::string::npos) {
      if (!ReadSome()) {
        return std::exchange(received_, {});
      }
    }
    const std::size_t size = received_.find(end) + end.size();
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }

  // One answer with a Content-Length: head and body.
  std::string ReadAnswer() {
    std::string answer = ReadUntil("\r\n\r\n");
    const std::size_t at = answer.find("Content-Length: ");
    const std::size_t size = at == std::string::npos ? 0 : std::stoul(answer.substr(at + 16));
    while (received_.size() < size && ReadSome()) {
    }
    answer += received_.substr(0, size);
    received_.erase(0, size);
    return answer;
  }

  std::string ReadToEnd() {
    while (ReadSome()) {
    }
    return std::exchange(received_, {});
  }

  void Close() { socket_.close(); }
  void SetReceiveBuffer(int bytes) {
    socket_.set_option(boost::asio::socket_base::receive_buffer_size(bytes));
  }

 private:
  // False at the end of the stream, and after the time limit.
  bool ReadSome() {
    char bytes[65536];
    const ssize_t n = recv(socket_.native_handle(), bytes, sizeof(bytes), 0);
    if (n > 0) {
      received_.append(bytes, static_cast<std::size_t>(n));
    }
    return n > 0;
  }

  boost::asio::io_context io_;
  boost::asio::ip::tcp::socket socket_;
  std::string received_;
};

}  // namespace yangtuo::testing
