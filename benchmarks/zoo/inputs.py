"""Plausible inputs, drawn by a seeded generator: arrays by input, rows first."""

import json
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_iris, load_sample_images

from benchmarks.zoo.packages import read_member

Arrays = dict[str, NDArray[Any]]
Generator = np.random.Generator
RATE = 16_000
WORDS = [
    "order",
    "total",
    "street",
    "market",
    "north",
    "2041",
    "kg",
    "invoice",
    "open",
    "paris",
    "left",
    "tea",
    "19:30",
    "exit",
]


@cache
def _photographs() -> list[Image.Image]:
    return [Image.fromarray(image) for image in load_sample_images().images]


def _crop(draw: Generator, size: int) -> NDArray[np.float32]:
    """A square part of a photograph, [3, size, size] in 0..1, turned or mirrored."""
    image = _photographs()[draw.integers(len(_photographs()))]
    side = int(draw.integers(120, 420))
    left, top = draw.integers(0, 640 - side), draw.integers(0, 427 - side)
    part = image.crop((left, top, left + side, top + side)).resize((size, size))
    part = part.rotate(90 * int(draw.integers(4)))
    return np.asarray(part, dtype=np.float32).transpose(2, 0, 1) / 255


def _images(size: int) -> Callable[[Generator, int], NDArray[np.float32]]:
    def draw_images(draw: Generator, rows: int) -> NDArray[np.float32]:
        return np.stack([_crop(draw, size) for _ in range(rows)])

    return draw_images


def _line(draw: Generator, width: int, height: int) -> Image.Image:
    paper = Image.new("RGB", (width, height), tuple(map(int, draw.integers(180, 256, 3))))
    words = " ".join(draw.choice(WORDS, 3))
    font = ImageFont.load_default(int(height * draw.uniform(0.45, 0.75)))
    ink = tuple(map(int, draw.integers(0, 110, 3)))
    ImageDraw.Draw(paper).text((4, height * 0.12), words, fill=ink, font=font)
    return paper.rotate(180) if draw.random() < 0.4 else paper


def _lines(draw: Generator, rows: int, width: int) -> NDArray[np.float32]:
    """Lines of printed text, [rows, 3, 48, width] in -1..1."""
    drawn = [np.asarray(_line(draw, width, 48), np.float32) for _ in range(rows)]
    return np.stack(drawn).transpose(0, 3, 1, 2) / 127.5 - 1


def _pages(draw: Generator, rows: int) -> NDArray[np.float32]:
    """Photographs with lines of text on them, [rows, 3, 192, 192] as PaddleOCR scales them."""
    pages = []
    for _ in range(rows):
        page = Image.fromarray((_crop(draw, 192).transpose(1, 2, 0) * 255).astype(np.uint8))
        for _ in range(int(draw.integers(1, 4))):
            place = (int(draw.integers(0, 60)), int(draw.integers(0, 160)))
            page.paste(_line(draw, 120, 24), place)
        pages.append(np.asarray(page, np.float32))
    scaled = np.stack(pages) / 255 - np.float32([0.485, 0.456, 0.406])
    return (scaled / np.float32([0.229, 0.224, 0.225])).transpose(0, 3, 1, 2)


def _speech(draw: Generator, rows: int, samples: int) -> NDArray[np.float32]:
    """What sounds like speech: pulses of a voice through resonances, syllables, pauses, noise."""
    time = np.arange(samples) / RATE
    sounds = []
    for _ in range(rows):
        pitch = draw.uniform(90, 240) * (1 + 0.1 * np.sin(2 * np.pi * draw.uniform(1, 4) * time))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = draw.uniform([300, 900, 2200], [800, 2000, 3200])
        voice = np.zeros(samples)
        for harmonic in range(1, 30):
            frequency = harmonic * float(pitch.mean())
            gain = sum(1 / (1 + ((frequency - f) / 180) ** 2) for f in formants)
            voice += gain * np.sin(harmonic * phase) / harmonic**0.5
        syllables = np.clip(
            np.sin(2 * np.pi * draw.uniform(2, 5) * time + draw.uniform(0, 6)), 0, 1
        )
        loudness = draw.choice([0.0, 0.08, 0.3])
        noise = draw.normal(scale=draw.uniform(0.0005, 0.01), size=samples)
        sounds.append(loudness * voice / np.abs(voice).max() * syllables + noise)
    return np.stack(sounds).astype(np.float32)


def _spectra(draw: Generator, rows: int, frames: int, bins: int, hop: int) -> NDArray[np.float32]:
    """Log spectra of speech, [rows, frames, bins], in decibels below the loudest over 40."""
    length = 2 * (bins - 1)
    sounds = _speech(draw, rows, hop * (frames - 1) + length)
    windows = np.lib.stride_tricks.sliding_window_view(sounds, length, axis=1)[:, ::hop]
    powers = np.abs(np.fft.rfft(windows[:, :frames] * np.hanning(length))) ** 2
    decibels = 10 * np.log10(powers + 1e-10)
    return ((decibels - decibels.max() + 40) / 40).astype(np.float32)


@cache
def _feature_session(file: str) -> onnxruntime.InferenceSession:
    content = read_member("openwakeword", f"openwakeword/resources/models/{file}")
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def _mel(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """The spectra that openWakeWord feeds its models, [rows, frames, 32]."""
    session = _feature_session("melspectrogram.onnx")
    pcm = (sounds * 32767).astype(np.float32)
    made = [session.run(None, {"input": row[None]})[0].reshape(-1, 32) for row in pcm]
    return np.stack(made) / 10 + 2


def _speech_spectra(draw: Generator, rows: int) -> NDArray[np.float32]:
    return _mel(_speech(draw, rows, 160 * 80))[:, :76, :, None]


def _wake(steps: int) -> Callable[[Generator, int], NDArray[np.float32]]:
    def draw_wake(draw: Generator, rows: int) -> NDArray[np.float32]:
        """Vectors of overlapping stretches of speech, [rows, steps, 96], by the models before."""
        frames = 76 + 8 * (steps - 1)
        spectra = _mel(_speech(draw, rows, 160 * (frames + 4)))
        session = _feature_session("embedding_model.onnx")
        vectors = []
        for row in spectra:
            parts = np.stack([row[8 * i : 8 * i + 76, :, None] for i in range(steps)])
            vectors.append(session.run(None, {"input_1": parts})[0].reshape(steps, 96))
        return np.stack(vectors)

    return draw_wake


def _file_bytes(draw: Generator, rows: int) -> NDArray[np.int32]:
    """The first and last 1024 bytes of files of this Python, 256 where a file is shorter."""
    root = Path(sysconfig.get_path("stdlib"))
    suffixes = (".py", ".txt", ".so", ".pyc", ".json", ".c", ".h", ".html", ".xml", ".whl", ".csv")
    by_suffix = {
        suffix: sorted(path for path in root.rglob(f"*{suffix}") if path.stat().st_size > 64)[:400]
        for suffix in suffixes
    }
    kinds = [list(draw.permutation(paths)) for paths in by_suffix.values() if paths]
    found = np.full((rows, 2048), 256, np.int32)
    for row in found:
        # Each file once: sets must not share rows.
        paths = max(kinds, key=lambda left: (len(left) > 0) * draw.random())
        content = paths.pop().read_bytes().strip()
        head, tail = content[:1024], content[-1024:]
        row[: len(head)] = list(head)
        row[2048 - len(tail) :] = list(tail)
    return found


def _voice(**more: Callable[[int], NDArray[Any]]) -> Callable[[Generator, int], Arrays]:
    def draw_voice(draw: Generator, rows: int) -> Arrays:
        """Stretches of 576 samples, and what belongs to the call."""
        sounds = _speech(draw, rows, 4000)[:, 2000:2576]
        return {"input": sounds, **{name: make(rows) for name, make in more.items()}}

    return draw_voice


def _zeros(*shape: int) -> Callable[[int], NDArray[np.float32]]:
    return lambda rows: np.zeros((rows, *shape), np.float32)


def _rate(rows: int) -> NDArray[np.int64]:
    return np.full(rows, RATE, np.int64)


def _voice_lstm(draw: Generator, rows: int) -> Arrays:
    sounds = _speech(draw, rows, 4000)[:, 2000:3536]
    state = np.zeros((rows, 2, 64), np.float32)
    return {"input": sounds, "sr": _rate(rows), "h": state, "c": state}


def _arabic(draw: Generator, rows: int) -> Arrays:
    size = len(json.loads(read_member("piper-tts", "piper/tashkeel/input_id_map.json")))
    length = 24
    return {
        "char_inputs": draw.integers(1, size, (rows, length)),
        "diac_inputs": np.zeros((rows, length), np.int64),
        "input_lengths": np.full(rows, length, np.int64),
    }


def _hebrew(draw: Generator, rows: int) -> NDArray[np.float32]:
    # Nakdimon numbers the 27 letters after punctuation; its table has 43 entries.
    return draw.integers(1, 43, (rows, 32)).astype(np.float32)


def _loss(draw: Generator, rows: int) -> Arrays:
    return {
        "degraded_audio": _spectra(draw, rows, 120, 257, 256)[:, None],
        "rater_embed": draw.normal(size=(rows, 64)).astype(np.float32),
    }


def _music(draw: Generator, rows: int) -> NDArray[np.float32]:
    """Chords of two seconds at 22,050 Hz, [rows, 43844, 1]."""
    time = np.arange(43_844) / 22_050
    chords = []
    for _ in range(rows):
        notes = 110 * 2 ** (draw.integers(0, 36, 3) / 12)
        starts = draw.uniform(0, 1.5, 3)
        sound = np.zeros(len(time))
        for note, start in zip(notes, starts, strict=True):
            decay = np.where(time > start, np.exp(-2 * np.clip(time - start, 0, None)), 0)
            sound += decay * sum(np.sin(2 * np.pi * k * note * time) / k for k in range(1, 6))
        chords.append(0.2 * sound + draw.normal(scale=0.002, size=len(time)))
    return np.stack(chords).astype(np.float32)[..., None]


DRAWERS: dict[str, Callable[[Generator, int], NDArray[Any] | Arrays]] = {
    "images_224": lambda draw, rows: (_images(224)(draw, rows) - 0.45) / 0.225,
    "images_320": _images(320),
    "images_416": lambda draw, rows: _images(416)(draw, rows) * 255,
    "file_bytes": _file_bytes,
    "text_lines_192": lambda draw, rows: _lines(draw, rows, 192),
    "text_lines_160": lambda draw, rows: _lines(draw, rows, 160),
    "text_pages": _pages,
    "grey_lines": lambda draw, rows: _lines(draw, rows, 160)[:, :1].repeat(2, 2)[:, :, 16:80],
    "music": _music,
    "speech_seconds": lambda draw, rows: _speech(draw, rows, RATE) * 32767,
    "speech_spectra": _speech_spectra,
    "wake_16": _wake(16),
    "wake_34": _wake(34),
    "voice_plain": _voice(state=_zeros(2, 128)),
    "voice_stated": _voice(state=_zeros(2, 128), sr=_rate),
    "voice_frames": _voice(),
    "voice_lstm": _voice_lstm,
    "mos_spectra": lambda draw, rows: _spectra(draw, rows, 900, 120, 160),
    "mos_samples": lambda draw, rows: _speech(draw, rows, 144_160),
    "echo_spectra": lambda draw, rows: _spectra(draw, 3 * rows, 100, 160, 160).reshape(
        rows, 3, 100, 160
    ),
    "loss_spectra": _loss,
    "arabic": _arabic,
    "hebrew": _hebrew,
    "iris_two": lambda draw, rows: draw.permutation(
        np.concatenate([load_iris().data[:, :2]] * 2).astype(np.float32)
        + draw.normal(scale=0.03, size=(300, 2)).astype(np.float32)
    )[:rows],
}


@cache
def _draw(name: str, rows: int) -> NDArray[Any] | Arrays:
    """Drawn once for models that are fed alike; nobody writes into what comes."""
    return DRAWERS[name](np.random.default_rng(rows), rows)


def draw_sets(entry_draw: str, rows: int, learned: Arrays | None) -> dict[str, Arrays]:
    """`calibration`, `evaluation` and `check`: a half, a quarter and a quarter of the rows."""
    if learned is not None:
        total = len(next(iter(learned.values())))
        chosen = np.random.default_rng(rows).permutation(total)[:rows]
        drawn: NDArray[Any] | Arrays = {name: value[chosen] for name, value in learned.items()}
    else:
        drawn = _draw(entry_draw, rows)
    arrays = drawn if isinstance(drawn, dict) else {"x": drawn}
    half, quarter = rows // 2, rows // 4
    places = {
        "calibration": slice(0, half),
        "evaluation": slice(half, half + quarter),
        "check": slice(half + quarter, half + 2 * quarter),
    }
    return {
        name: {key: value[place] for key, value in arrays.items()} for name, place in places.items()
    }
