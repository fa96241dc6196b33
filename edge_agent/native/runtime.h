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
#include "numbers.h"
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

// What a model says of one input: its type and shape, -1 for a dimension that it leaves open.
struct Input {
  std::string name;
  const Element *element = nullptr;
  std::vector<int64_t> shape;
};

// What one input gets in a call. The bytes belong to whoever calls.
struct Feed {
  const Element *element;
  const std::vector<int64_t> *shape;
  uint8_t *bytes;
  size_t size;
};

// A model with inputs of numbers, of which one output is read.
class Model {
 public:
  // `bytes` are what was verified: nothing is read from disk again. `output` empty: the only one.
  Model(const Runtime &runtime, const std::vector<uint8_t> &bytes, int threads,
        const std::string &output)
      : ort_(runtime) {
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
    for (const std::string &name : ReadNames(kGetInputCount, kGetInputName)) {
      inputs_.push_back(ReadInput(inputs_.size(), name));
      input_names_.push_back(name);
    }
    if (inputs_.empty()) throw Failure(Status::kModel, "the model has no input");
    ChooseOutput(ReadNames(kGetOutputCount, kGetOutputName), output);
  }

  ~Model() {
    if (memory_) ort_.Call<void>(kReleaseMemoryInfo, memory_);
    if (session_) ort_.Call<void>(kReleaseSession, session_);
    if (options_) ort_.Call<void>(kReleaseSessionOptions, options_);
    if (env_) ort_.Call<void>(kReleaseEnv, env_);
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  const std::vector<Input> &inputs() const { return inputs_; }

  // The output's numbers for one call, a feed for each input. Throws Failure(kOutput).
  std::vector<double> Run(const std::vector<Feed> &feeds) const {
    std::vector<Value> fed;
    std::vector<const OrtValue *> values;
    std::vector<const char *> names;
    fed.reserve(feeds.size());
    for (size_t i = 0; i < feeds.size(); i++) {
      const Feed &feed = feeds[i];
      fed.emplace_back(ort_);
      ort_.Check(Status::kOutput, kCreateTensorWithData, static_cast<const OrtMemoryInfo *>(memory_),
                 static_cast<void *>(feed.bytes), feed.size, feed.shape->data(), feed.shape->size(),
                 feed.element->number, &fed.back().value);
      values.push_back(fed.back().value);
      names.push_back(input_names_[i].c_str());
    }
    Value got(ort_);
    const char *output = output_name_.c_str();
    ort_.Check(Status::kOutput, kRun, session_, static_cast<const OrtRunOptions *>(nullptr),
               names.data(), values.data(), values.size(), &output, size_t{1}, &got.value);
    return ReadNumbers(got.value);
  }

 private:
  struct Value {
    explicit Value(const Runtime &runtime) : ort(runtime) {}
    ~Value() {
      if (value) ort.Call<void>(kReleaseValue, value);
    }
    Value(Value &&other) noexcept : ort(other.ort), value(other.value) { other.value = nullptr; }
    Value(const Value &) = delete;
    Value &operator=(const Value &) = delete;
    const Runtime &ort;
    OrtValue *value = nullptr;
  };

  template <class... Args>
  void Check(OrtSlot slot, Args... args) const {
    ort_.Check(Status::kModel, slot, args...);
  }

  std::vector<double> ReadNumbers(OrtValue *value) const {
    OrtTensorTypeAndShapeInfo *info = nullptr;
    size_t count = 0;
    int type = 0;
    void *data = nullptr;
    // A sequence or a map is refused here, by the runtime's own words.
    ort_.Check(Status::kModel, kGetTensorTypeAndShape, static_cast<const OrtValue *>(value), &info);
    const OrtTensorTypeAndShapeInfo *seen = info;
    ort_.Check(Status::kOutput, kGetElementCount, seen, &count);
    ort_.Check(Status::kOutput, kGetElementType, seen, &type);
    ort_.Call<void>(kReleaseTensorInfo, info);
    const Element *element = FindElement(type);
    if (!element) throw Failure(Status::kModel, "the output '" + output_name_ + "' is no numbers");
    if (count == 0) throw Failure(Status::kOutput, "the output is empty");
    ort_.Check(Status::kOutput, kGetTensorData, value, &data);
    std::vector<double> numbers(count);
    for (size_t i = 0; i < count; i++)
      numbers[i] = ToDouble(*element, static_cast<const uint8_t *>(data) + i * element->size);
    return numbers;
  }

  std::vector<std::string> ReadNames(OrtSlot count_slot, OrtSlot name_slot) const {
    const OrtSession *session = session_;
    size_t count = 0;
    Check(count_slot, session, &count);
    OrtAllocator *allocator = nullptr;
    Check(kGetDefaultAllocator, &allocator);
    std::vector<std::string> names;
    for (size_t i = 0; i < count; i++) {
      char *name = nullptr;
      Check(name_slot, session, i, allocator, &name);
      names.emplace_back(name);
      Check(kAllocatorFree, allocator, static_cast<void *>(name));
    }
    return names;
  }

  void ChooseOutput(const std::vector<std::string> &names, const std::string &wanted) {
    std::string known;
    for (const std::string &name : names) {
      known += (known.empty() ? "" : ", ") + name;
      if (name == wanted || (wanted.empty() && names.size() == 1)) output_name_ = name;
    }
    if (output_name_.empty() && wanted.empty())
      throw Failure(Status::kModel, "several outputs, say which with --output: " + known);
    if (output_name_.empty())
      throw Failure(Status::kModel, "--output: expected one of " + known + ", got '" + wanted + "'");
  }

  Input ReadInput(size_t place, const std::string &name) const {
    OrtTypeInfo *type = nullptr;
    const OrtTensorTypeAndShapeInfo *tensor = nullptr;
    size_t rank = 0;
    int number = 0;
    Input input;
    input.name = name;
    Check(kGetInputTypeInfo, static_cast<const OrtSession *>(session_), place, &type);
    Check(kCastToTensorInfo, static_cast<const OrtTypeInfo *>(type), &tensor);
    if (tensor) {
      Check(kGetElementType, tensor, &number);
      Check(kGetDimensionsCount, tensor, &rank);
      input.shape.resize(rank);
      if (rank) Check(kGetDimensions, tensor, input.shape.data(), rank);
    }
    ort_.Call<void>(kReleaseTypeInfo, type);
    input.element = FindElement(number);
    if (!input.element)
      throw Failure(Status::kModel, "the input '" + name + "' is no numbers: this program feeds no texts");
    if (rank > npy::kMaxRank)
      throw Failure(Status::kModel,
                    "the input '" + name + "' has " + std::to_string(rank) + " dimensions");
    return input;
  }

  const Runtime &ort_;
  OrtEnv *env_ = nullptr;
  OrtSessionOptions *options_ = nullptr;
  OrtSession *session_ = nullptr;
  OrtMemoryInfo *memory_ = nullptr;
  std::vector<Input> inputs_;
  std::vector<std::string> input_names_;
  std::string output_name_;
};
