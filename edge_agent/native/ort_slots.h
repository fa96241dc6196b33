// The slice of ONNX Runtime's C interface that edge_infer uses, by slot number.
//
// OrtApi is a table of function pointers that only ever grows at its end, so a slot keeps its number
// in every later release. The Python wheel ships the library without headers; this stands in for them.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtStatus;
struct OrtAllocator;
struct OrtTypeInfo;
struct OrtTensorInfo;
struct OrtApiBase {
  const void *const *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)();
};
const OrtApiBase *OrtGetApiBase();
}

constexpr uint32_t kOrtApiVersion = 16;  // the oldest release this was tried with
constexpr int kLogWarning = 2, kOptimiseAll = 99, kFloat = 1, kArena = 1, kDefaultMemory = 0;

enum OrtSlot : size_t {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetGraphOptimization = 23,
  kSetIntraOpThreads = 24,
  kSetInterOpThreads = 25,
  kGetInputTypeInfo = 33,
  kGetInputName = 36,
  kGetOutputName = 37,
  kCreateTensorWithData = 49,
  kGetTensorData = 51,
  kCastToTensorInfo = 55,
  kGetElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetElementCount = 64,
  kGetTensorTypeAndShape = 65,
  kCreateCpuMemoryInfo = 69,
  kGetDefaultAllocator = 78,
  kReleaseEnv = 92,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseTypeInfo = 98,
  kReleaseTensorInfo = 99,
  kReleaseSessionOptions = 100,
  kAddSessionConfigEntry = 130,
};
