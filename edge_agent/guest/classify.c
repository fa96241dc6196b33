// A classifier in a sandbox: 8-bit image -> resize and normalise -> wasi-nn -> activation -> top-k.
//
// Freestanding: it imports `wasi_ephemeral_nn` and nothing else. The model is known to it by the name
// "default" alone, so the same module serves every release and also runs on other wasi-nn hosts.
// What the exports take and answer is written down in README.md beside this file.
typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;

#define IMPORT(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

typedef struct {
  u32 dimensions, dimension_count;
  u8 type, padding[3];  // some hosts read the type as 32 bits: the padding must be zero
  u32 data, size;
} Tensor;
typedef struct { u32 class_id; float confidence; } Hit;
// Where a row or column of the model's input falls in the image: between `low` and `high`.
typedef struct { u32 low, high; float part; } Place;
enum { TYPE_F32 = 1 };
enum { ACTIVATION_NONE = 0, ACTIVATION_SOFTMAX = 1, ACTIVATION_SIGMOID = 2 };
enum { MAX_CHANNELS = 4, MAX_SIDE = 4096, MAX_CLASSES = 65536, MAX_IMAGE_SIDE = 8192 };

IMPORT("load_by_name") i32 nn_load_by_name(const char *name, u32 length, u32 *graph);
IMPORT("init_execution_context") i32 nn_init_context(u32 graph, u32 *context);
IMPORT("set_input") i32 nn_set_input(u32 context, u32 index, const Tensor *tensor);
IMPORT("compute") i32 nn_compute(u32 context);
IMPORT("get_output") i32 nn_get_output(u32 context, u32 index, void *to, u32 capacity, u32 *size);

extern u8 __heap_base;
static u32 heap_end, context;
static u32 channels, height, width, classes, activation;
static float mean[MAX_CHANNELS], deviation[MAX_CHANNELS];
static float *input, *output;
static Place *columns;

// Memory is only ever taken, never given back: an instance lives for one model.
EXPORT("edge_alloc") void *edge_alloc(u32 size) {
  if (!heap_end) heap_end = ((u32)&__heap_base + 15) & ~15u;
  u32 start = heap_end, have = (u32)__builtin_wasm_memory_size(0) << 16;
  if (size > 0x7fffffffu - start) return 0;
  u32 end = start + ((size + 15) & ~15u);
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (unsigned long)-1)
    return 0;
  heap_end = end;
  return (void *)start;
}

// Returns 0, or a negative number that names the step that failed.
EXPORT("edge_init") i32 edge_init(u32 with_channels, u32 with_height, u32 with_width,
                                  u32 with_classes, u32 with_activation) {
  static const char name[] = "default";
  u32 graph;
  if (!with_channels || with_channels > MAX_CHANNELS || !with_height || with_height > MAX_SIDE ||
      !with_width || with_width > MAX_SIDE || !with_classes || with_classes > MAX_CLASSES ||
      with_activation > ACTIVATION_SIGMOID)
    return -1;
  if (nn_load_by_name(name, sizeof name - 1, &graph)) return -2;
  if (nn_init_context(graph, &context)) return -3;
  channels = with_channels, height = with_height, width = with_width;
  classes = with_classes, activation = with_activation;
  for (u32 c = 0; c < MAX_CHANNELS; c++) mean[c] = 0.0f, deviation[c] = 1.0f;
  input = edge_alloc(channels * height * width * 4);
  output = edge_alloc(classes * 4);
  columns = edge_alloc(width * sizeof(Place));
  return input && output && columns ? 0 : -4;
}

// Pixels of the channel become (value / 255 - mean) / deviation.
EXPORT("edge_normalise") i32 edge_normalise(u32 channel, float with_mean, float with_deviation) {
  if (channel >= channels || !(with_deviation > 0)) return -1;
  mean[channel] = with_mean, deviation[channel] = with_deviation;
  return 0;
}

// e^x for x <= 0, relative error below 2e-7 (Cephes expf: Cody-Waite reduction, degree 5).
static float exponential(float x) {
  if (x < -87.0f) return 0.0f;
  float k = __builtin_floorf(x * 1.44269504f + 0.5f);
  float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  union { u32 bits; float value; } power = {(u32)((i32)k + 127) << 23};
  return (p * r * r + r + 1.0f) * power.value;
}

// Pixel centres of both grids lie on each other, as in OpenCV and in ONNX's half_pixel.
static Place find_place(u32 index, u32 model_size, u32 image_size) {
  float at = ((float)index + 0.5f) * (float)image_size / (float)model_size - 0.5f;
  if (at < 0) at = 0;
  u32 low = (u32)at;
  if (low > image_size - 1) low = image_size - 1;
  return (Place){low, low + 1 < image_size ? low + 1 : low, at - (float)low};
}

static void preprocess(const u8 *image, u32 image_height, u32 image_width) {
  float scale[MAX_CHANNELS], shift[MAX_CHANNELS];
  for (u32 c = 0; c < channels; c++) {
    scale[c] = 1.0f / (255.0f * deviation[c]);
    shift[c] = -mean[c] / deviation[c];
  }
  for (u32 x = 0; x < width; x++) columns[x] = find_place(x, width, image_width);
  for (u32 y = 0; y < height; y++) {
    Place row = find_place(y, height, image_height);
    const u8 *upper = image + row.low * image_width * channels;
    const u8 *lower = image + row.high * image_width * channels;
    for (u32 x = 0; x < width; x++) {
      u32 left = columns[x].low * channels, right = columns[x].high * channels;
      float across = columns[x].part;
      for (u32 c = 0; c < channels; c++) {
        float a = upper[left + c], b = upper[right + c], d = lower[left + c], e = lower[right + c];
        float above = a + (b - a) * across, below = d + (e - d) * across;
        float value = above + (below - above) * row.part;
        input[(c * height + y) * width + x] = value * scale[c] + shift[c];
      }
    }
  }
}

// Turns `count` scores into confidences; returns 0 when one is not finite.
static i32 activate(u32 count) {
  float highest = output[0], total = 0;
  for (u32 i = 0; i < count; i++) {
    if (output[i] - output[i] != 0) return 0;
    if (output[i] > highest) highest = output[i];
  }
  if (activation == ACTIVATION_SOFTMAX) {
    for (u32 i = 0; i < count; i++) total += output[i] = exponential(output[i] - highest);
    for (u32 i = 0; i < count; i++) output[i] /= total;
  } else if (activation == ACTIVATION_SIGMOID) {
    for (u32 i = 0; i < count; i++) {
      float power = exponential(output[i] < 0 ? output[i] : -output[i]);
      output[i] = (output[i] < 0 ? power : 1.0f) / (1.0f + power);
    }
  }
  return 1;
}

// Fills `hits` with the best `count` classes; returns how many, or a negative number.
EXPORT("edge_classify") i32 edge_classify(const u8 *image, u32 image_height, u32 image_width,
                                          Hit *hits, u32 count) {
  if (!columns || !image_height || !image_width || image_height > MAX_IMAGE_SIDE ||
      image_width > MAX_IMAGE_SIDE)
    return -1;
  preprocess(image, image_height, image_width);
  u32 dimensions[4] = {1, channels, height, width}, size = 0;
  Tensor tensor = {(u32)dimensions, 4, TYPE_F32, {0}, (u32)input, channels * height * width * 4};
  if (nn_set_input(context, 0, &tensor)) return -2;
  if (nn_compute(context)) return -3;
  if (nn_get_output(context, 0, output, classes * 4, &size)) return -4;
  u32 got = size / 4;
  if (!got || got > classes) return -5;
  if (!activate(got)) return -6;
  if (count > got) count = got;
  for (u32 n = 0; n < count; n++) {
    u32 best = 0;
    for (u32 i = 1; i < got; i++)
      if (output[i] > output[best]) best = i;
    hits[n].class_id = best;
    hits[n].confidence = output[best];
    output[best] = -__builtin_inff();
  }
  return (i32)count;
}
