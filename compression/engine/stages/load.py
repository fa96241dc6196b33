"""The order as values, and what its source says of itself without being run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.recipe.facts import GraphFacts
from compression.recipe.graph_facts import read_facts
from compression.recipe.recipe import Recipe, parse_recipe
from registry.reading.contract import Contract, parse_contract


@dataclass(frozen=True)
class Loaded:
    """What is to be done, to which files.

    Attributes:
        done: the passes a cache already had, each with its `file`, where one is needed, and notes.
        contract: of the source's outputs; None where nobody wrote any.
        registered_accuracy: what the source was registered with on this very evaluation set.
    """

    recipe: Recipe
    scratch: Path
    source: Path
    facts: GraphFacts
    calibration: Path | None
    evaluation: Path
    done: tuple[Mapping[str, Any], ...]
    contract: Contract | None
    registered_accuracy: float | None

    @property
    def input_axes(self) -> Mapping[str, int | None]:
        """The axes of rows that the contract names."""
        return {} if self.contract is None else self.contract.input_batch_axes


def load(order: Mapping[str, Any], scratch: Path) -> Loaded:
    """The order's recipe, and its files inside `scratch`.

    Raises:
        RecipeInvalidError, ModelUnsupportedError: the source is no ONNX model.
        ContractError: the contract is none.
    """
    document = order.get("contract")
    contract = None if document is None else parse_contract(document)
    source = scratch / order["source"]
    calibration = order.get("calibration")
    return Loaded(
        recipe=parse_recipe(order["recipe"]),
        scratch=scratch,
        source=source,
        facts=read_facts(source, contract.input_batch_axes if contract else {}),
        calibration=scratch / calibration if calibration else None,
        evaluation=scratch / order["evaluation"],
        done=tuple(order["done"]),
        contract=contract,
        registered_accuracy=order.get("registered_accuracy"),
    )
