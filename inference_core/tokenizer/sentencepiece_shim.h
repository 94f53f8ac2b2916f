#pragma once

#include <stddef.h>

// The C interface of the shim, the only shared library of ours that links Debian's
// libsentencepiece. That library exports a Protobuf of its own and cannot share a link namespace
// with ours, so the shim is loaded into another one (SentencePieceLibrary), where it has its own C
// and C++ run-time libraries. Hence nothing allocated on one side is freed on the other, and no
// exception crosses.

// Opaque: one loaded model. Immutable after creation, so every function below is thread-safe.
struct YangtuoSpm;

// Receives results while the call lasts.
using YangtuoSpmIds = void (*)(void* receiver, const int* ids, size_t num_ids);
using YangtuoSpmText = void (*)(void* receiver, const char* text, size_t num_bytes);

extern "C" {

// Null when the model is refused; `error` then got the reason.
YangtuoSpm* yangtuo_spm_create(const char* model, size_t num_bytes, YangtuoSpmText error,
                               void* receiver);
void yangtuo_spm_destroy(YangtuoSpm* model);

// Both return 0, or 1 when the library refused; nothing was received then.
int yangtuo_spm_encode(const YangtuoSpm* model, const char* text, size_t num_bytes,
                       YangtuoSpmIds ids, void* receiver);
int yangtuo_spm_decode(const YangtuoSpm* model, const int* ids, size_t num_ids, YangtuoSpmText text,
                       void* receiver);
}
