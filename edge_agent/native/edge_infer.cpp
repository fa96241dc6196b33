// Runs a model over the rows of npy files on a board without room for Python.
//
// kHelp below says how; the forms and activations are those of the release's output contract. The
// model's bytes are hashed before the runtime sees them, and those same bytes are loaded. Each row
// gives one line of JSON, and a last line says what it cost. The exit statuses are in failure.h.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "feeds.h"
#include "sha256.h"

namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kMaxModelBytes = 2ull << 30;
constexpr const char *kHelp =
    "edge_infer MODEL --sha256 DIGEST [--input ROWS.npy | --input NAME=ROWS.npy ...]\n"
    "           [--output NAME] [--form scores|binary|label|values]\n"
    "           [--activation softmax|sigmoid|exp|none] [--top K] [--threads N] [--repeat N]\n"
    "           [--library FILE]\n"
    "\n"
    "Inputs: any number of them, of bool, whole numbers, float16, float32 or float64, a file each\n"
    "  (--input NAME=FILE) of the very type. One row a call: an input whose first dimension is open\n"
    "  or 1 has rows; any other, a rate or a state, belongs to the call. A state that is left out is\n"
    "  zeros, and without any --input one row of zeros is run.\n"
    "Outputs: one is read, --output names it where the model has several. Forms: scores (one a\n"
    "  class), binary (one score, of class 1), label (the class itself), values (numbers as they are).\n"
    "Not here, but in the agent: texts, maps (scikit-learn's ZipMap), several labels, boxes, masks\n"
    "  and letters read for what they mean (--form values prints their numbers), states that go back\n"
    "  into the next call, weights in files beside the model, batches of a fixed size above 1.\n";

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Options {
  std::string model, digest, output, library, activation = "softmax", form = "scores";
  std::vector<std::string> inputs;
  size_t top = 3;
  int threads = 1, repeat = 1;
};

int ParseNumber(const std::string &word, const std::string &text, int highest) {
  int value = 0;
  bool is_number = !text.empty() && text.size() < 9;
  for (char letter : text) {
    is_number = is_number && letter >= '0' && letter <= '9';
    if (is_number) value = value * 10 + (letter - '0');
  }
  if (!is_number || value < 1 || value > highest)
    throw Failure(Status::kUsage,
                  word + ": expected 1 to " + std::to_string(highest) + ", got '" + text + "'");
  return value;
}

Options ParseArguments(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    std::string word = argv[i];
    if (word[0] != '-') {
      if (!options.model.empty()) throw Failure(Status::kUsage, "more than one model: " + word);
      options.model = word;
      continue;
    }
    if (i + 1 == argc) throw Failure(Status::kUsage, word + " needs a value");
    std::string value = argv[++i];
    if (word == "--sha256") options.digest = value;
    else if (word == "--input") options.inputs.push_back(value);
    else if (word == "--output") options.output = value;
    else if (word == "--library") options.library = value;
    else if (word == "--activation") options.activation = value;
    else if (word == "--form") options.form = value;
    else if (word == "--top") options.top = static_cast<size_t>(ParseNumber(word, value, 65536));
    else if (word == "--threads") options.threads = ParseNumber(word, value, 64);
    else if (word == "--repeat") options.repeat = ParseNumber(word, value, 1000000);
    else throw Failure(Status::kUsage, "unknown option " + word);
  }
  if (options.model.empty()) throw Failure(Status::kUsage, "no model given");
  if (options.digest.size() != 64) throw Failure(Status::kUsage, "--sha256 needs 64 hexadecimal digits");
  if (options.activation != "softmax" && options.activation != "sigmoid" &&
      options.activation != "exp" && options.activation != "none")
    throw Failure(Status::kUsage, "--activation: expected softmax, sigmoid, exp or none");
  if (options.form != "scores" && options.form != "binary" && options.form != "label" &&
      options.form != "values")
    throw Failure(Status::kUsage, "--form: expected scores, binary, label or values");
  if (options.form == "binary" && options.activation == "softmax")
    throw Failure(Status::kUsage, "--form binary: expected --activation sigmoid, exp or none");
  return options;
}

// The files by input: `NAME=FILE`, or a file alone where the model has one input.
std::map<std::string, std::string> NameFiles(const std::vector<std::string> &words,
                                             const std::vector<Input> &inputs) {
  std::map<std::string, std::string> files;
  for (const std::string &word : words) {
    std::string name, known;
    for (const Input &input : inputs) {
      known += (known.empty() ? "" : ", ") + input.name;
      if (word.rfind(input.name + "=", 0) == 0 && input.name.size() >= name.size()) name = input.name;
    }
    bool is_alone = name.empty() && inputs.size() == 1;
    if (name.empty() && !is_alone)
      throw Failure(Status::kUsage, "--input: expected NAME=FILE of " + known + ", got '" + word + "'");
    std::string file = is_alone ? word : word.substr(name.size() + 1);
    if (!files.emplace(is_alone ? inputs[0].name : name, file).second)
      throw Failure(Status::kUsage, "--input: two files for '" + (is_alone ? inputs[0].name : name) + "'");
  }
  return files;
}

void Activate(std::vector<double> &scores, const std::string &activation) {
  for (double score : scores)
    if (!std::isfinite(score)) throw Failure(Status::kOutput, "the scores are not finite");
  if (activation == "softmax") {
    double highest = *std::max_element(scores.begin(), scores.end()), total = 0;
    for (double &score : scores) total += score = std::exp(score - highest);
    for (double &score : scores) score /= total;
  } else if (activation == "sigmoid") {
    for (double &score : scores) score = 1.0 / (1.0 + std::exp(-score));
  } else if (activation == "exp") {
    for (double &score : scores) score = std::exp(std::min(score, 0.0));
  }
}

void PrintValues(size_t index, const std::vector<double> &values, double latency_us) {
  for (double value : values)
    if (!std::isfinite(value)) throw Failure(Status::kOutput, "the values are not finite");
  std::printf("{\"index\": %zu, \"values\": [", index);
  for (size_t i = 0; i < values.size(); i++)
    std::printf("%s%.9g", i ? ", " : "", values[i]);
  std::printf("], \"latency_us\": %.1f}\n", latency_us);
}

void PrintLabel(size_t index, const std::vector<double> &labels, double latency_us) {
  if (labels.size() != 1 || labels[0] != std::floor(labels[0]) || std::fabs(labels[0]) > 1e15)
    throw Failure(Status::kModel, "--form label: expected one whole number a row, the model has " +
                                      std::to_string(labels.size()));
  std::printf("{\"index\": %zu, \"class_id\": %.0f, \"latency_us\": %.1f}\n", index, labels[0],
              latency_us);
}

// The probabilities of both classes out of the score of class 1.
std::vector<double> ReadBinary(std::vector<double> scores, const std::string &activation) {
  if (scores.size() != 1)
    throw Failure(Status::kModel, "--form binary: expected one score a row, the model has " +
                                      std::to_string(scores.size()));
  Activate(scores, activation);
  return {1.0 - scores[0], scores[0]};
}

void PrintRow(size_t index, std::vector<double> scores, const Options &options, double latency_us) {
  if (options.form == "values") return PrintValues(index, scores, latency_us);
  if (options.form == "label") return PrintLabel(index, scores, latency_us);
  bool is_binary = options.form == "binary";
  if (is_binary) scores = ReadBinary(std::move(scores), options.activation);
  if (scores.size() == 1)
    throw Failure(Status::kModel,
                  "one score a row is no score per class: say --form binary or --form values");
  // Ordered before the activation, which may round two scores to one confidence.
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  size_t shown = std::min(options.top, order.size());
  for (double score : scores)
    if (!std::isfinite(score)) throw Failure(Status::kOutput, "the scores are not finite");
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](size_t a, size_t b) {
                      if (scores[a] != scores[b]) return scores[a] > scores[b];
                      return is_binary ? a > b : a < b;  // a half is class 1
                    });
  if (!is_binary) Activate(scores, options.activation);
  std::printf("{\"index\": %zu, \"top_k\": [", index);
  for (size_t i = 0; i < shown; i++)
    std::printf("%s{\"class_id\": %zu, \"confidence\": %.6f}", i ? ", " : "", order[i],
                scores[order[i]]);
  std::printf("], \"latency_us\": %.1f}\n", latency_us);
}

long ReadPeakKb() {
  long peak = 0;
  char line[128];
  if (FILE *status = std::fopen("/proc/self/status", "re")) {
    while (std::fgets(line, sizeof line, status))
      if (std::sscanf(line, "VmHWM: %ld", &peak) == 1) break;
    std::fclose(status);
  }
  return peak;
}

void RunRows(const Options &options, Clock::time_point started) {
  std::vector<uint8_t> bytes = ReadFile(options.model, kMaxModelBytes, Status::kModel);
  std::string digest = Sha256::Hex(bytes.data(), bytes.size());
  if (digest != options.digest)
    throw Failure(Status::kModel, options.model + ": expected SHA-256 " + options.digest + ", got " + digest);
  Runtime runtime(options.library);
  Model model(runtime, bytes, options.threads, options.output);
  std::vector<uint8_t>().swap(bytes);
  double load_ms = MillisecondsSince(started), first_ms = 0;
  Feeds feeds(model.inputs(), NameFiles(options.inputs, model.inputs()));
  size_t count = feeds.count();
  std::vector<double> times;
  for (int round = 0; round < options.repeat; round++) {
    for (size_t i = 0; i < count; i++) {
      std::vector<Feed> row = feeds.Row(i);
      Clock::time_point before = Clock::now();
      std::vector<double> scores = model.Run(row);
      times.push_back(MillisecondsSince(before) * 1e3);
      if (round) continue;
      PrintRow(i, scores, options, times.back());
      if (i) continue;
      first_ms = MillisecondsSince(started);
      std::fflush(stdout);  // whoever waits for the first answer has it now
    }
  }
  std::sort(times.begin(), times.end());
  auto at = [&](double share) {
    return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))];
  };
  std::printf("{\"rows\": %zu, \"runtime\": \"%s\", \"load_ms\": %.2f, \"first_inference_ms\": %.2f, "
              "\"p50_us\": %.1f, \"p95_us\": %.1f, \"p99_us\": %.1f, \"peak_rss_kb\": %ld}\n",
              count, runtime.version().c_str(), load_ms, first_ms, at(0.50), at(0.95), at(0.99),
              ReadPeakKb());
}

}  // namespace

int main(int argc, char **argv) {
  Clock::time_point started = Clock::now();
  if (argc == 2 && std::string(argv[1]) == "--help") return std::fputs(kHelp, stdout) < 0;
  try {
    RunRows(ParseArguments(argc, argv), started);
    return static_cast<int>(Status::kDone);
  } catch (const Failure &failure) {
    std::fprintf(stderr, "edge_infer: %s\n", failure.what());
    return static_cast<int>(failure.status);
  } catch (const std::bad_alloc &) {
    std::fprintf(stderr, "edge_infer: out of memory\n");
    return static_cast<int>(Status::kInput);
  }
}
