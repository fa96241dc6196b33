"""Recipes: what is accepted, what is refused and why."""

import pytest

from compression.exceptions import RecipeInvalidError
from compression.recipe.presets import PRESETS, get_preset
from compression.recipe.provenance import step_keys
from compression.recipe.recipe import SCHEMA, merge_recipe, parse_recipe

STATIC = {"schema": SCHEMA, "passes": [{"pass": "prepare"}, {"pass": "quantize.static"}]}


@pytest.mark.parametrize("slug", PRESETS)
def test_every_preset_is_a_recipe_that_survives_a_round_trip(slug):
    recipe = parse_recipe(get_preset(slug).recipe)
    assert parse_recipe(recipe.to_json()) == recipe


REFUSED = {
    "not an object": [],
    "wrong schema": {**STATIC, "schema": "compress/2"},
    "no passes": {"schema": SCHEMA, "passes": []},
    "unknown pass": {"schema": SCHEMA, "passes": [{"pass": "quantize.magic"}]},
    "unknown parameter": {"schema": SCHEMA, "passes": [{"pass": "prepare", "level": 3}]},
    "ratio out of range": {"schema": SCHEMA, "passes": [{"pass": "prune.structured", "ratio": 1}]},
    "a number as text": {"schema": SCHEMA, "passes": [{"pass": "quantize.static", "chunk": "9"}]},
    "a boolean as number": {
        "schema": SCHEMA,
        "passes": [{"pass": "quantize.static", "chunk": True}],
    },
    "not finite": {**STATIC, "gates": {"max_p95_ms": float("nan")}},
    "unknown section": {**STATIC, "shell": "rm"},
    "unknown target": {**STATIC, "target": {"isa": "z80"}},
    "no memory": {**STATIC, "limits": {"memory_bytes": 1}},
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_recipe_is_refused(case):
    with pytest.raises(RecipeInvalidError):
        parse_recipe(REFUSED[case])


def test_overrides_replace_single_values_of_a_section():
    merged = merge_recipe({**STATIC, "gates": {"max_bytes": 5}}, {"gates": {"min_agreement": 0.9}})
    assert merged["gates"] == {"max_bytes": 5, "min_agreement": 0.9}


def test_a_step_key_depends_on_all_that_its_output_depends_on():
    recipe = parse_recipe(STATIC)
    base = step_keys("a" * 64, recipe, "b" * 64)
    assert base == step_keys("a" * 64, recipe, "b" * 64)
    other_seed = parse_recipe({**STATIC, "data": {"seed": 1}})
    other_parameter = parse_recipe(
        {**STATIC, "passes": [{"pass": "prepare"}, {"pass": "quantize.static", "chunk": 8}]}
    )
    assert not set(base) & set(step_keys("c" * 64, recipe, "b" * 64))
    # Preparing looks at no calibration rows: its result serves every set and seed.
    for over in (step_keys("a" * 64, recipe, "d" * 64), step_keys("a" * 64, other_seed, "b" * 64)):
        assert over[0] == base[0] and over[1] != base[1]
    changed = step_keys("a" * 64, other_parameter, "b" * 64)
    assert changed[0] == base[0] and changed[1] != base[1]


def test_gates_alone_do_not_change_a_step_key():
    recipe = parse_recipe({**STATIC, "gates": {"max_bytes": 5}})
    assert step_keys("a", recipe, None) == step_keys("a", parse_recipe(STATIC), None)
