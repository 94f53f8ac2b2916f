#include "inference_core/checkpoint/known_files.h"

#include <algorithm>
#include <array>

namespace yangtuo {
namespace {

constexpr std::array<KnownFile, 6> kKnownFiles = {{
    {"9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347", "tokenizer.model",
     "LLaMA and LLaMA-2, 32,000 pieces"},
    {"0f5f6f717181694ec2e1c9be4398e2db2e40a3902932325b06e12ad4cd64ac09", "chinese_sp.model",
     "the Chinese pieces that Chinese-LLaMA adds, 20,000"},
    {"e2676d4ca29ca1750f6ff203328d73b189321dc5776ceede037cbd36541d70c0", "tokenizer.model",
     "Chinese-LLaMA (and Plus, Pro), 49,953 pieces"},
    {"2d967e855b1213a439df6c8ce2791f869c84b4f3b6cfacf22b86440b8192a2f8", "tokenizer.model",
     "Chinese-Alpaca (and Plus, Pro), 49,954 pieces"},
    {"a3b8844863b200dfcca971db228e96ce388290dfcf72c15d7a9d2f604bac787c", "tokenizer.model",
     "Chinese-LLaMA-2 and Chinese-Alpaca-2, 55,296 pieces"},
    {"700df0d3013b703a806d2ae7f1bfb8e59814e3d06ae78be0c66368a50059f33d", "consolidated.00.pth",
     "LLaMA 7B, Meta's layout"},
}};

}  // namespace

std::span<const KnownFile> KnownFiles() { return kKnownFiles; }

const KnownFile* FindKnownFile(std::string_view sha256) {
  const auto* const found = std::find_if(kKnownFiles.begin(), kKnownFiles.end(),
                                         [&](const KnownFile& f) { return f.sha256 == sha256; });
  return found == kKnownFiles.end() ? nullptr : found;
}

}  // namespace yangtuo
