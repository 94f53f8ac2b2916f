#pragma once

// Before a function: builds it, and all that it calls, for AVX2 whatever the rest is built for. The
// operations and their order are those of the code as it stands, without fused products, so the
// results are those of a build for any other machine. Call it only where GetCpuFeatures().avx2.
#if defined(__x86_64__)
#define YANGTUO_BUILD_FOR_AVX2 __attribute__((target("avx2"), flatten))
#else
#define YANGTUO_BUILD_FOR_AVX2
#endif
