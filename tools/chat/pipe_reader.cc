#include <iostream>

#include "tools/chat/line_reader.h"

namespace yangtuo {
namespace {

class PipeReader final : public LineReader {
 public:
  ReadLine Read(const std::string& /*prompt*/) override {
    ReadLine line;
    if (std::getline(std::cin, line.text)) {
      line.kind = ReadLine::Kind::kLine;
    }
    return line;
  }
  void Restore() override {}
};

}  // namespace

std::unique_ptr<LineReader> NewPipeReader() { return std::make_unique<PipeReader>(); }

}  // namespace yangtuo
