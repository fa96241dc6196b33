"""What a data set must be for a model: told when the order is made, with expected and found."""

import numpy as np
import pytest

from compression.exceptions import DataSetUnusableError
from compression.measure.samples import Samples, check_classes
from compression.recipe.dataset_fit import find_misfit
from registry.validation.feeds import InputSpec

IMAGE = (InputSpec("image", "float32", ("n", 1, 8, 8), 0),)
PAIR = (
    InputSpec("left", "float32", ("n", 4), 0),
    InputSpec("right", "int64", ("n", "length"), 0),
)
SPEECH = (
    InputSpec("sound", "float32", ("n", 512), 0),
    InputSpec("state", "float32", (2, "n", 64), 1),
    InputSpec("rate", "int64", (), None),
)
WORDS = (InputSpec("words", "string", ("n", 1), 0),)


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
    "another name of the only input": (IMAGE, described(data=("float32", (9, 1, 8, 8)))),
    "a state for each row, and no rate": (
        SPEECH,
        described(sound=("float32", (9, 512)), state=("float32", (9, 2, 64))),
    ),
    "a rate for all rows": (
        SPEECH,
        described(sound=("float32", (9, 512)), state=("float32", (9, 2, 64)), rate=("int64", ())),
    ),
    "texts": (WORDS, described(words=("str96", (9, 1)))),
}
MISFITS = {
    "channels last": (
        IMAGE,
        described(x=("float32", (9, 8, 8, 1))),
        "The data set's x has shape [9, 8, 8, 1]; the input wants ['n', 1, 8, 8]",
    ),
    "flattened": (
        IMAGE,
        described(x=("float32", (9, 64))),
        "The data set's x has shape [9, 64]; the input wants ['n', 1, 8, 8]",
    ),
    "one of two": (
        PAIR,
        described(left=("float32", (9, 4))),
        "Expected an array for each input, ['left', 'right']; the data set has ['left']",
    ),
    "x for two": (
        PAIR,
        described(x=("float32", (9, 4))),
        "Expected an array for each input, ['left', 'right']; the data set has ['x']",
    ),
    "fractions for tokens": (
        PAIR,
        described(left=("float32", (9, 4)), right=("float32", (9, 7))),
        "The data set's right is float32; the input wants int64",
    ),
    "any length, but no length": (
        PAIR,
        described(left=("float32", (9, 4)), right=("int64", (9,))),
        "The data set's right has shape [9]; the input wants ['n', 'length']",
    ),
    "a state as the graph has it": (
        SPEECH,
        described(sound=("float32", (9, 512)), state=("float32", (2, 9, 64))),
        "The data set's state has shape [2, 9, 64]; the input wants [2, 'n', 64] with its rows on "
        "axis 1",
    ),
    "numbers for texts": (
        WORDS,
        described(words=("int64", (9, 1))),
        "The data set's words is int64; the input wants texts",
    ),
    "texts for numbers": (
        IMAGE,
        described(x=("str96", (9, 1, 8, 8))),
        "The data set's x is str96; the input wants float32",
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
