"""What a search tries, in order: pruned bases, each stored in several formats. Pure."""

from dataclasses import dataclass
from typing import Any

from compression.recipe.alignment import FLOAT_ALIGNMENT, INT8_ALIGNMENT
from compression.recipe.passes import PASSES
from compression.recipe.presets import VARIED

Steps = tuple[dict[str, Any], ...]

PRUNING_RATIOS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# Training takes longer than all the rest, so only where it can gain most.
TRAINED_RATIOS = (0.6, 0.8, 0.4)
# FP32 source to INT8 student, where no size is asked for.
STUDENT_RATIOS = (14.0, 28.0)
# A student is cut to an expected size, which its file misses by a few percent.
FILLED_SHARE = 0.95
# INT8 alone makes a model four times smaller.
MIN_STUDENT_RATIO = 4.0


@dataclass(frozen=True)
class Format:
    """How a base is stored, and the fewest bytes a parameter takes in it."""

    name: str
    steps: Steps
    bytes_per_parameter: int


@dataclass(frozen=True)
class Base:
    """An FP32 model that the formats start from; `parent` is the base it is made from."""

    name: str
    steps: Steps
    parent: str = ""
    ratio: float = 0.0
    is_trained: bool = False


def list_formats() -> list[Format]:
    """FP32, and what the passes declare, in the order they are tried in."""
    declared = [(form, item.name) for item in PASSES.values() for form in item.formats]
    declared.sort(key=lambda pair: (pair[0].place, pair[0].name))
    return [
        Format("fp32", (), 4),
        *(
            Format(form.name, ({"pass": name, **form.parameters},), form.bytes_per_parameter)
            for form, name in declared
        ),
    ]


def list_bases(
    max_ratio: float,
    objective: str,
    *,
    can_train: bool,
    source_bytes: int,
    max_bytes: int | None = None,
) -> list[Base]:
    """Bases, cheapest to make first; those that train come last.

    One pruned base serves formats that want different multiples: where the fastest is looked for,
    its widths suit INT8, else they are as fine as FP32 kernels allow.

    Args:
        max_ratio: the largest share of channels to remove; 0 leaves pruning out.
        can_train: whether PyTorch is there.
        source_bytes: of the FP32 file.
        max_bytes: a pruned student is cut to just fit, for nothing larger can be more accurate.
    """
    align = INT8_ALIGNMENT if objective == "latency" else FLOAT_ALIGNMENT
    ratios = [ratio for ratio in PRUNING_RATIOS if ratio <= max_ratio + 1e-9]
    bases = [Base("", ())]
    for ratio in ratios:
        step = {"pass": "prune.structured", "ratio": ratio, "align": align}
        bases.append(Base(f"p{round(100 * ratio)}", (step,), "", ratio))
    if can_train:
        bases += [_cut_student(ratio) for ratio in list_student_ratios(source_bytes, max_bytes)]
        for ratio in TRAINED_RATIOS:
            if ratio in ratios:
                parent = f"p{round(100 * ratio)}"
                steps = ({"pass": "finetune.kd", **VARIED},)
                bases.append(Base(f"{parent}+kd", steps, parent, ratio, is_trained=True))
        bases.append(Base("student", ({"pass": "distill.student", **VARIED},), is_trained=True))
    return bases


def list_student_ratios(source_bytes: int, max_bytes: int | None) -> list[float]:
    """How many times smaller than the source pruned students are made, the largest first."""
    if max_bytes is None:
        return list(STUDENT_RATIOS)
    fitting = round(source_bytes / (FILLED_SHARE * max_bytes), 2)
    return [ratio for ratio in (fitting, round(2 * fitting, 2)) if ratio > MIN_STUDENT_RATIO]


def _cut_student(ratio: float) -> Base:
    step = {"pass": "distill.student", "blocks": "pruned", "ratio": ratio, **VARIED}
    return Base(f"student{ratio:g}x", (step,), is_trained=True)


def name_candidate(base: Base, form: Format) -> str:
    """`p40+int8-qdq`, or the format alone for the unpruned base."""
    return f"{base.name}+{form.name}" if base.name else form.name


def fits_when_pruned(parameters: int, ratio: float, max_bytes: int | None) -> bool:
    """Whether a model of that many parameters can fit with a share of its channels removed.

    A weight between two narrowed layers keeps (1 - ratio)^2 of its parameters, every other weight
    more; none takes less than one byte.
    """
    return max_bytes is None or parameters * (1.0 - ratio) ** 2 <= max_bytes


def fits_at_best(parameters: int, form: Format, max_bytes: int | None) -> bool:
    """Whether a base of that many parameters can fit at all, before anything is built."""
    return max_bytes is None or parameters * form.bytes_per_parameter <= max_bytes
