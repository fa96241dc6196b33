"""Models that scikit-learn trains and skl2onnx exports, each with the rows it is fed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from skl2onnx import __version__ as exporter_version
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import datasets
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

OPSET = 17
SEED = 11
Rows = dict[str, NDArray[Any]]
Fitted = tuple[Any, list[tuple[str, Any]], Rows, dict[Any, Any]]
"""The estimator, its inputs, all rows by input, and options of the exporter."""


@dataclass(frozen=True)
class Export:
    """How one model is made."""

    fit: Callable[[], Fitted]

    @property
    def origin(self) -> str:
        return f"scikit-learn {sklearn.__version__}, skl2onnx {exporter_version}"

    def write(self, path: Path) -> Rows:
        """Trains, exports to `path`, and gives the rows it can be fed."""
        estimator, inputs, rows, options = self.fit()
        model = to_onnx(
            estimator,
            initial_types=inputs,
            target_opset={"": OPSET, "ai.onnx.ml": 3},
            # Without any, the exporter refuses even an empty table for some estimators.
            options=options or None,
        )
        path.write_bytes(model.SerializeToString())
        return rows


def _numbers(values: NDArray[Any]) -> tuple[list[tuple[str, Any]], Rows]:
    table = values.astype(np.float32)
    # Varied a little: data sets of a few hundred rows are too few to draw disjoint sets from.
    generator = np.random.default_rng(SEED)
    varied = table + generator.normal(scale=0.02 * table.std(axis=0), size=table.shape)
    rows = np.concatenate([table, varied.astype(np.float32)])
    return [("x", FloatTensorType([None, table.shape[1]]))], {"x": rows}


def _digits_logistic() -> Fitted:
    data = datasets.load_digits()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    model.fit(data.data, data.target)
    return model, *_numbers(data.data), {LogisticRegression: {"zipmap": False}}


def _digits_network() -> Fitted:
    data = datasets.load_digits()
    network = MLPClassifier((96, 48), max_iter=60, random_state=SEED)
    model = make_pipeline(StandardScaler(), network).fit(data.data, data.target)
    return model, *_numbers(data.data), {id(network): {"zipmap": False}}


def _wine_forest() -> Fitted:
    data = datasets.load_wine()
    names = data.target_names[data.target]
    model = RandomForestClassifier(40, random_state=SEED).fit(data.data, names)
    return model, *_numbers(data.data), {}


def _cancer_margin() -> Fitted:
    data = datasets.load_breast_cancer()
    margin = LinearSVC(random_state=SEED)
    model = make_pipeline(StandardScaler(), margin).fit(data.data, data.target)
    return model, *_numbers(data.data), {id(margin): {"nocl": False}}


def _digit_traits() -> Fitted:
    data = datasets.load_digits()
    traits = np.stack([data.target % 2 == 0, data.target > 4, data.target % 3 == 0], axis=1)
    model = OneVsRestClassifier(LogisticRegression(max_iter=200))
    model.fit(data.data / 16, traits.astype(int))
    return model, *_numbers(data.data / 16), {id(model): {"zipmap": False}}


def _diabetes_boosted() -> Fitted:
    data = datasets.load_diabetes()
    model = GradientBoostingRegressor(n_estimators=60, random_state=SEED)
    return model.fit(data.data, data.target), *_numbers(data.data), {}


def _diabetes_network() -> Fitted:
    data = datasets.load_diabetes()
    network = MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=400, random_state=SEED)
    model = make_pipeline(StandardScaler(), network).fit(data.data, data.target)
    return model, *_numbers(data.data), {}


def _wine_outliers() -> Fitted:
    data = datasets.load_wine()
    model = IsolationForest(n_estimators=40, random_state=SEED).fit(data.data)
    return model, *_numbers(data.data), {}


def _mixed_columns() -> Fitted:
    data = datasets.load_wine()
    colours = np.array(["pale", "ruby", "dark"])[np.digitize(data.data[:, 9], [4, 6.5])]
    table = np.empty((len(colours), 4), dtype=object)
    table[:, 0], table[:, 1:] = colours, data.data[:, :3]
    columns = ColumnTransformer(
        [("colour", OneHotEncoder(), [0]), ("numbers", StandardScaler(), [1, 2, 3])]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=200)).fit(table, data.target)
    inputs = [("colour", StringTensorType([None, 1])), ("numbers", FloatTensorType([None, 3]))]
    _, numbers = _numbers(data.data[:, :3])
    rows = {"colour": np.tile(colours, 2).reshape(-1, 1), "numbers": numbers["x"]}
    return model, inputs, rows, {LogisticRegression: {"zipmap": False}}


_PARTS = (
    ("invoice", "order", "refund", "payment", "account", "delivery", "parcel", "receipt"),
    ("crash", "error", "update", "sensor", "battery", "camera", "signal", "restart"),
    ("meeting", "friday", "lunch", "agenda", "minutes", "room", "holiday", "team"),
)


def _subjects() -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Subject lines of three kinds."""
    generator = np.random.default_rng(SEED)
    kinds = generator.integers(0, 3, size=400)
    lines = [
        " ".join([*generator.choice(_PARTS[kind], 3), *generator.choice(_PARTS[(kind + 1) % 3], 1)])
        for kind in kinds
    ]
    return np.array(lines), kinds


def _subject_lines() -> Fitted:
    lines, kinds = _subjects()
    model = make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression(max_iter=200)).fit(
        lines, kinds
    )
    inputs = [("text", StringTensorType([None, 1]))]
    rows = {"text": lines.reshape(-1, 1)}
    return model, inputs, rows, {LogisticRegression: {"zipmap": False}}


def _subject_vectors() -> Fitted:
    lines, _ = _subjects()
    model = make_pipeline(
        TfidfVectorizer(lowercase=False), TruncatedSVD(12, random_state=SEED), Normalizer()
    ).fit(lines)
    return model, [("text", StringTensorType([None, 1]))], {"text": lines.reshape(-1, 1)}, {}


EXPORTS = {
    "digits-logistic": Export(_digits_logistic),
    "digits-network": Export(_digits_network),
    "wine-forest": Export(_wine_forest),
    "cancer-margin": Export(_cancer_margin),
    "digit-traits": Export(_digit_traits),
    "diabetes-boosted": Export(_diabetes_boosted),
    "diabetes-network": Export(_diabetes_network),
    "wine-outliers": Export(_wine_outliers),
    "mixed-columns": Export(_mixed_columns),
    "subject-lines": Export(_subject_lines),
    "subject-vectors": Export(_subject_vectors),
}
