"""The one check of decoded bodies: each kind of value that no store keeps, wherever it stands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.decoded import UnstorableValueError, check_decoded, decode_json

REFUSED = {
    "NUL": (b'{"a": ["x", "b\\u0000c"]}', "$.a[1]"),
    "NUL in a key": (b'{"a": {"k\\u0000": 1}}', "$.a.k"),
    "lone surrogate": (b'{"a": "\\ud83d"}', "$.a"),
    "surrogate in a key": (b'{"\\udfff": 1}', "$."),
    "integer of 65 bits": (b'{"a": 9223372036854775808}', "$.a"),
    "negative integer of 65 bits": (b'{"a": [-9223372036854775809]}', "$.a[0]"),
    "integer of 5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "$"),
    "number beyond the floats": (b'{"a": 1e999}', "$.a"),
    "NaN": (b'{"a": NaN}', "$"),
    "-Infinity": (b"[-Infinity]", "$"),
    "33 levels": (b"[" * 33 + b"]" * 33, "$"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "$"),
    "objects in objects": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "$"),
    "too many members": (json.dumps(list(range(20_001))).encode(), "$"),
    "many small objects": (json.dumps([{"a": 1}] * 15_000).encode(), "$"),
    "a long key": (json.dumps({"x" * 257: 1}).encode(), "$.x"),
    "not UTF-8": (b'{"a": "\xff"}', "$"),
    "nothing": (b"", "$"),
    "two values": (b"1 2", "$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_store_keeps_is_refused_with_its_path(name):
    body, path = REFUSED[name]
    with pytest.raises(UnstorableValueError) as caught:
        decode_json(body)
    assert caught.value.path.startswith(path)
    assert str(caught.value).encode()


_PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)


@given(st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner)))
def test_what_can_be_kept_comes_out_as_it_went_in(value):
    check_decoded(value)
    assert decode_json(json.dumps(value).encode()) == value
