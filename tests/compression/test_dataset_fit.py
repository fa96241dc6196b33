"""What a data set must be for a model: told when the order is made, with expected and found."""

import numpy as np
import pytest

from compression.exceptions import DataSetUnusableError
from compression.measure.samples import Samples, check_classes
from compression.recipe.dataset_fit import find_misfit
from compression.recipe.facts import TensorFacts

IMAGE = (TensorFacts("image", "float32", (None, 1, 8, 8)),)
PAIR = (
    TensorFacts("left", "float32", (None, 4)),
    TensorFacts("right", "int64", (None, None)),
)


def described(**arrays: tuple[str, tuple[int, ...]]) -> dict[str, dict[str, object]]:
    return {name: {"dtype": d, "shape": list(s)} for name, (d, s) in arrays.items()}


FITS = {
    "x": (IMAGE, described(x=("float32", (9, 1, 8, 8)), y=("int64", (9,)))),
    "the input's name": (IMAGE, described(image=("float32", (9, 1, 8, 8)))),
    "doubles": (IMAGE, described(x=("float64", (9, 1, 8, 8)))),
    "bytes": (IMAGE, described(x=("uint8", (9, 1, 8, 8)))),
    "two inputs, one of any length": (
        PAIR,
        described(left=("float32", (9, 4)), right=("int32", (9, 77))),
    ),
}
MISFITS = {
    "another name": (
        IMAGE,
        described(data=("float32", (9, 1, 8, 8))),
        "expected an array 'x' or 'image' for the model's input, found data.",
    ),
    "channels last": (
        IMAGE,
        described(x=("float32", (9, 8, 8, 1))),
        "'x' has rows of shape [8, 8, 1]; the input 'image' wants [1, 8, 8].",
    ),
    "flattened": (
        IMAGE,
        described(x=("float32", (9, 64))),
        "'x' has rows of shape [64]; the input 'image' wants [1, 8, 8].",
    ),
    "one of two": (
        PAIR,
        described(left=("float32", (9, 4))),
        "expected an array 'right' for the model's input, found left.",
    ),
    "x for two": (
        PAIR,
        described(x=("float32", (9, 4))),
        "expected an array 'left' for the model's input, found x.",
    ),
    "fractions for tokens": (
        PAIR,
        described(left=("float32", (9, 4)), right=("float32", (9, 7))),
        "'right' is float32; the input 'right' wants int64.",
    ),
    "any length, but no length": (
        PAIR,
        described(left=("float32", (9, 4)), right=("int64", (9,))),
        "'right' has rows of shape []; the input 'right' wants [any].",
    ),
}


@pytest.mark.parametrize("case", FITS)
def test_a_set_that_fits_is_taken(case: str) -> None:
    inputs, arrays = FITS[case]
    assert find_misfit(arrays, inputs) is None


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_told_with_expected_and_found(case: str) -> None:
    inputs, arrays, message = MISFITS[case]
    assert find_misfit(arrays, inputs) == message


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_without_a_score_are_refused_where_no_label_map_tells(label: int) -> None:
    samples = Samples({"x": np.zeros((3, 2))}, np.array([0, 3, label]))
    with pytest.raises(DataSetUnusableError, match="expected 0 to 3"):
        check_classes(samples, 4)
    check_classes(samples, None)
