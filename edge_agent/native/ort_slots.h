// The slice of ONNX Runtime's C interface that edge_infer uses, by slot number.
//
// OrtApi is a table of function pointers that only ever grows at its end, so a slot keeps its number
// in every later release. The Python wheel ships the library without headers; this stands in for them.
// Where the official header is found (CMake looks for it), each number is checked against it.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef AVIARY_OFFICIAL_HEADER
#include <onnxruntime_c_api.h>
#else
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
struct OrtTensorTypeAndShapeInfo;
}
#endif

// What OrtGetApiBase answers; its two members never change.
struct OrtBase {
  const void *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)();
};

constexpr uint32_t kOrtApiVersion = 16;  // the oldest release this was tried with
constexpr int kLogError = 3, kOptimiseAll = 99, kFloat = 1, kArena = 1, kDefaultMemory = 0;

enum OrtSlot : size_t {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSessionFromArray = 8,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetGraphOptimization = 23,
  kSetIntraOpThreads = 24,
  kSetInterOpThreads = 25,
  kGetInputCount = 30,
  kGetOutputCount = 31,
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
  kAllocatorFree = 76,
  kGetDefaultAllocator = 78,
  kReleaseEnv = 92,
  kReleaseStatus = 93,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseTypeInfo = 98,
  kReleaseTensorInfo = 99,
  kReleaseSessionOptions = 100,
  kAddSessionConfigEntry = 130,
};

#ifdef AVIARY_OFFICIAL_HEADER
#define AVIARY_SLOT(slot, member) \
  static_assert(offsetof(OrtApi, member) == slot * sizeof(void *), #member " is not in its slot")
AVIARY_SLOT(kGetErrorMessage, GetErrorMessage);
AVIARY_SLOT(kCreateEnv, CreateEnv);
AVIARY_SLOT(kCreateSessionFromArray, CreateSessionFromArray);
AVIARY_SLOT(kRun, Run);
AVIARY_SLOT(kCreateSessionOptions, CreateSessionOptions);
AVIARY_SLOT(kSetGraphOptimization, SetSessionGraphOptimizationLevel);
AVIARY_SLOT(kSetIntraOpThreads, SetIntraOpNumThreads);
AVIARY_SLOT(kSetInterOpThreads, SetInterOpNumThreads);
AVIARY_SLOT(kGetInputCount, SessionGetInputCount);
AVIARY_SLOT(kGetOutputCount, SessionGetOutputCount);
AVIARY_SLOT(kGetInputTypeInfo, SessionGetInputTypeInfo);
AVIARY_SLOT(kGetInputName, SessionGetInputName);
AVIARY_SLOT(kGetOutputName, SessionGetOutputName);
AVIARY_SLOT(kCreateTensorWithData, CreateTensorWithDataAsOrtValue);
AVIARY_SLOT(kGetTensorData, GetTensorMutableData);
AVIARY_SLOT(kCastToTensorInfo, CastTypeInfoToTensorInfo);
AVIARY_SLOT(kGetElementType, GetTensorElementType);
AVIARY_SLOT(kGetDimensionsCount, GetDimensionsCount);
AVIARY_SLOT(kGetDimensions, GetDimensions);
AVIARY_SLOT(kGetElementCount, GetTensorShapeElementCount);
AVIARY_SLOT(kGetTensorTypeAndShape, GetTensorTypeAndShape);
AVIARY_SLOT(kCreateCpuMemoryInfo, CreateCpuMemoryInfo);
AVIARY_SLOT(kAllocatorFree, AllocatorFree);
AVIARY_SLOT(kGetDefaultAllocator, GetAllocatorWithDefaultOptions);
AVIARY_SLOT(kReleaseEnv, ReleaseEnv);
AVIARY_SLOT(kReleaseStatus, ReleaseStatus);
AVIARY_SLOT(kReleaseMemoryInfo, ReleaseMemoryInfo);
AVIARY_SLOT(kReleaseSession, ReleaseSession);
AVIARY_SLOT(kReleaseValue, ReleaseValue);
AVIARY_SLOT(kReleaseTypeInfo, ReleaseTypeInfo);
AVIARY_SLOT(kReleaseTensorInfo, ReleaseTensorTypeAndShapeInfo);
AVIARY_SLOT(kReleaseSessionOptions, ReleaseSessionOptions);
AVIARY_SLOT(kAddSessionConfigEntry, AddSessionConfigEntry);
#undef AVIARY_SLOT
#endif
