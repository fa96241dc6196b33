// ONNX Runtime, found when the program runs, and one model loaded into it.
#pragma once
#include <dlfcn.h>
#include <libgen.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "failure.h"
#include "npy.h"
#include "ort_slots.h"

// The loaded library: its table of functions, by slot.
class Runtime {
 public:
  // `path` empty: `libonnxruntime.so.1` beside the program, else wherever the loader looks.
  explicit Runtime(const std::string &path) {
    // The runtime would report this process to its maker, and its start would wait for a database.
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    void *library = path.empty() ? OpenDefault() : dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (!library) throw Failure(Status::kRuntime, std::string("no ONNX Runtime: ") + dlerror());
    void *found = dlsym(library, "OrtGetApiBase");
    if (!found) throw Failure(Status::kRuntime, "the library has no OrtGetApiBase");
    const OrtBase *base = reinterpret_cast<const OrtBase *(*)()>(found)();
    version_ = base->GetVersionString();
    table_ = static_cast<const void *const *>(base->GetApi(kOrtApiVersion));
    if (!table_)
      throw Failure(Status::kRuntime, "ONNX Runtime " + version_ + " has no interface of version " +
                                          std::to_string(kOrtApiVersion));
  }

  const std::string &version() const { return version_; }

  template <class Result, class... Args>
  Result Call(OrtSlot slot, Args... args) const {
    return reinterpret_cast<Result (*)(Args...)>(const_cast<void *>(table_[slot]))(args...);
  }

  // Calls a function that answers with a status; `failed` is what a refusal ends the program with.
  template <class... Args>
  void Check(Status failed, OrtSlot slot, Args... args) const {
    OrtStatus *status = Call<OrtStatus *>(slot, args...);
    if (!status) return;
    std::string message = Call<const char *>(kGetErrorMessage, static_cast<const OrtStatus *>(status));
    Call<void>(kReleaseStatus, status);
    throw Failure(failed, message);
  }

 private:
  static void *OpenDefault() {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
      self[length] = 0;
      std::string beside = std::string(dirname(self)) + "/libonnxruntime.so.1";
      if (access(beside.c_str(), R_OK) == 0) return dlopen(beside.c_str(), RTLD_LAZY | RTLD_LOCAL);
    }
    return dlopen("libonnxruntime.so.1", RTLD_LAZY | RTLD_LOCAL);
  }

  const void *const *table_ = nullptr;
  std::string version_;
};

// A model with one float32 input and one float32 output of scores.
class Model {
 public:
  // `bytes` are what was verified: nothing is read from disk again.
  Model(const Runtime &runtime, const std::vector<uint8_t> &bytes, int threads) : ort_(runtime) {
    Check(kCreateEnv, kLogError, "edge", &env_);
    Check(kCreateSessionOptions, &options_);
    Check(kSetGraphOptimization, options_, kOptimiseAll);
    Check(kSetIntraOpThreads, options_, threads);
    Check(kSetInterOpThreads, options_, 1);
    // A spinning thread on a small board takes the time of whoever feeds it.
    Check(kAddSessionConfigEntry, options_, "session.intra_op.allow_spinning", "0");
    Check(kCreateSessionFromArray, static_cast<const OrtEnv *>(env_),
          static_cast<const void *>(bytes.data()), bytes.size(),
          static_cast<const OrtSessionOptions *>(options_), &session_);
    Check(kCreateCpuMemoryInfo, kArena, kDefaultMemory, &memory_);
    input_name_ = ReadName(kGetInputCount, kGetInputName, "input");
    output_name_ = ReadName(kGetOutputCount, kGetOutputName, "output");
    ReadShape();
  }

  ~Model() {
    if (memory_) ort_.Call<void>(kReleaseMemoryInfo, memory_);
    if (session_) ort_.Call<void>(kReleaseSession, session_);
    if (options_) ort_.Call<void>(kReleaseSessionOptions, options_);
    if (env_) ort_.Call<void>(kReleaseEnv, env_);
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  // The input's dimensions for one row; those that the model leaves open count as 1.
  const std::vector<int64_t> &shape() const { return shape_; }

  // The scores of one row. Throws Failure(kOutput).
  std::vector<float> Run(float *row, size_t size) const {
    Value fed(ort_), got(ort_);
    const char *input = input_name_.c_str(), *output = output_name_.c_str();
    ort_.Check(Status::kOutput, kCreateTensorWithData, static_cast<const OrtMemoryInfo *>(memory_),
               static_cast<void *>(row), size * sizeof(float), shape_.data(), shape_.size(), kFloat,
               &fed.value);
    ort_.Check(Status::kOutput, kRun, session_, static_cast<const OrtRunOptions *>(nullptr), &input,
               const_cast<const OrtValue *const *>(&fed.value), size_t{1}, &output, size_t{1},
               &got.value);
    OrtTensorTypeAndShapeInfo *info = nullptr;
    size_t count = 0;
    int type = 0;
    void *data = nullptr;
    ort_.Check(Status::kOutput, kGetTensorTypeAndShape, static_cast<const OrtValue *>(got.value), &info);
    const OrtTensorTypeAndShapeInfo *seen = info;
    ort_.Check(Status::kOutput, kGetElementCount, seen, &count);
    ort_.Check(Status::kOutput, kGetElementType, seen, &type);
    ort_.Call<void>(kReleaseTensorInfo, info);
    if (type != kFloat) throw Failure(Status::kModel, "the output is not float32");
    if (count == 0) throw Failure(Status::kOutput, "the output is empty");
    ort_.Check(Status::kOutput, kGetTensorData, got.value, &data);
    const float *scores = static_cast<const float *>(data);
    return std::vector<float>(scores, scores + count);
  }

 private:
  struct Value {
    explicit Value(const Runtime &runtime) : ort(runtime) {}
    ~Value() {
      if (value) ort.Call<void>(kReleaseValue, value);
    }
    Value(const Value &) = delete;
    Value &operator=(const Value &) = delete;
    const Runtime &ort;
    OrtValue *value = nullptr;
  };

  template <class... Args>
  void Check(OrtSlot slot, Args... args) const {
    ort_.Check(Status::kModel, slot, args...);
  }

  std::string ReadName(OrtSlot count_slot, OrtSlot name_slot, const char *kind) const {
    const OrtSession *session = session_;
    size_t count = 0;
    Check(count_slot, session, &count);
    if (count != 1)
      throw Failure(Status::kModel, std::string("expected one ") + kind + ", the model has " +
                                        std::to_string(count));
    OrtAllocator *allocator = nullptr;
    char *name = nullptr;
    Check(kGetDefaultAllocator, &allocator);
    Check(name_slot, session, size_t{0}, allocator, &name);
    std::string copy = name;
    Check(kAllocatorFree, allocator, static_cast<void *>(name));
    return copy;
  }

  void ReadShape() {
    OrtTypeInfo *type = nullptr;
    const OrtTensorTypeAndShapeInfo *tensor = nullptr;
    size_t rank = 0;
    int element = 0;
    Check(kGetInputTypeInfo, static_cast<const OrtSession *>(session_), size_t{0}, &type);
    Check(kCastToTensorInfo, static_cast<const OrtTypeInfo *>(type), &tensor);
    if (tensor) {
      Check(kGetElementType, tensor, &element);
      Check(kGetDimensionsCount, tensor, &rank);
      shape_.resize(rank);
      Check(kGetDimensions, tensor, shape_.data(), rank);
    }
    ort_.Call<void>(kReleaseTypeInfo, type);
    if (element != kFloat) throw Failure(Status::kModel, "the input is not float32");
    if (rank == 0 || rank > npy::kMaxRank)
      throw Failure(Status::kModel, "the input has " + std::to_string(rank) + " dimensions");
    uint64_t count = 1;
    for (int64_t &size : shape_) {
      size = std::max<int64_t>(size, 1);
      if (static_cast<uint64_t>(size) > npy::kMaxBytes) count = npy::kMaxBytes;
      count *= static_cast<uint64_t>(std::min<int64_t>(size, npy::kMaxBytes));
      if (count > npy::kMaxBytes / sizeof(float))
        throw Failure(Status::kModel, "one row of the input passes 1 GiB");
    }
  }

  const Runtime &ort_;
  OrtEnv *env_ = nullptr;
  OrtSessionOptions *options_ = nullptr;
  OrtSession *session_ = nullptr;
  OrtMemoryInfo *memory_ = nullptr;
  std::string input_name_, output_name_;
  std::vector<int64_t> shape_;
};
