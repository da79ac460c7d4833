"""Labels in files of networks: what `build` takes comes back with its dtype and every value, the rest is refused."""

from __future__ import annotations

import datetime
import enum
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import redunet as rn
from redunet._inputs import checks
from redunet.network import label_codec

TEXT = np.dtypes.StringDType


def network(labels):
    y = np.asarray(labels)
    return rn.build(np.eye(2 * len(y)), np.tile(y, 2), n_layers=1)[0]


LABELS = {
    "bytes": np.array([b"a", b"bc", b"\xff\0x"]),
    "one empty": np.array([b""]),
    "text": np.array(["", "dög", "\U0001f40e", "a\0b", "\ud800"]),
    "padded text": np.array(["a", "b"], "U300"),
    "text of any length": np.array(["", "x" * 300, "ü"], TEXT()),
    "text that may lack": np.array(["a", "b"], TEXT(na_object=None)),
    "text with NaN": np.array(["a", "b"], TEXT(na_object=np.nan)),
    "years": np.array(["2020", "-44"], "M8[Y]"),
    "days": np.array(["2024-01-01", "1969-12-31"], "M8[D]"),
    "25 seconds": np.array([3, -7], "M8[25s]"),
    "attoseconds": np.array([1, 2**60], "m8[as]"),
    "spans without a unit": np.array([1, 2], "m8"),
    "other bytes first": np.array([1.5, 2.5], ">f4"),
    "dates, other bytes first": np.array(["2020", "2021"], ">M8[D]"),
    "half": np.array([0.1, -65504], np.float16),
    "long double": np.array([1, 1 + np.finfo(np.longdouble).eps], np.longdouble),
    "complex": np.array([1j, 0.1 - 2j]),
    "single complex": np.array([1j, 2], np.complex64),
    "long complex": np.array([1j, 2], np.clongdouble),
    "booleans": np.array([True, False]),
    "8 bits": np.array([-128, 127], np.int8),
    "64 bits": np.array([2**64 - 1, 2**63, 0], np.uint64),
    "objects: numbers": np.array([True, 2, 0.1, 2**200, -7], object),
    "objects: bytes": np.array([b"a", b"\xff"], object),
    "objects: text": np.array(["a", "b\ud800"], object),
    "objects: infinity": np.array([1, float("inf")], object),
    "objects: numbers of NumPy": np.array([np.int8(3), np.float32(0.1), np.uint64(2**63), True, 7], object),
    "objects: dates of NumPy": np.array([np.datetime64("2020-01-01"), np.datetime64("2021-01-01")], object),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_round_trip(tmp_path, labels):
    net = network(labels)
    net.save(tmp_path / "net")
    for mmap in (True, False):
        classes = rn.load(tmp_path / "net", mmap=mmap).classes_
        assert classes.dtype == net.classes_.dtype
        assert classes.dtype.isnative
        assert not classes.flags.writeable
        before, after = net.classes_.tolist(), classes.tolist()
        assert after == before
        assert list(map(type, after)) == list(map(type, before))
        assert (classes == net.classes_).all()


DTYPES = st.one_of(
    hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(), hnp.complex_number_dtypes(),
    hnp.boolean_dtypes(), hnp.datetime64_dtypes(), hnp.timedelta64_dtypes(), hnp.unicode_string_dtypes(max_len=5),
    hnp.byte_string_dtypes(max_len=5),
)  # fmt: skip


@given(data=st.data())
def test_any_dtype(data):
    y = data.draw(hnp.arrays(data.draw(DTYPES), 4))
    try:
        _, _, classes = checks.membership(y, 4)
    except ValueError as error:
        assert "missing" in str(error) or "NaN" in str(error)  # noqa: PT017
        return
    decoded = label_codec.decode(*label_codec.encode(classes), len(classes))
    assert decoded.dtype == classes.dtype
    np.testing.assert_array_equal(decoded, classes)


def test_a_subclass_of_a_plain_type_comes_back_as_that():
    class Colour(str, enum.Enum):
        RED = "red"

    classes = np.array([Colour.RED], object)
    assert label_codec.decode(*label_codec.encode(classes), 1).tolist() == ["red"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([frozenset(), frozenset([1])], "y holds the label frozenset.* of type frozenset; expected numbers, text"),
        ([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)], "of type date; expected .* NumPy's dates"),
        ([Fraction(1, 2), Fraction(1, 3)], r"y holds the label Fraction\(1, 3\) of type Fraction"),
        (np.array([(1, 2), (3, 4)], "i4,i4"), "y holds labels of dtype .*; expected numbers, text"),
    ],
)
def test_other_labels_are_refused_before_the_construction(labels, message):
    y = labels
    if isinstance(labels, list):
        y = np.empty(2, object)
        y[:] = labels
    with pytest.raises(TypeError, match=message):
        rn.build(np.eye(4), np.tile(y, 2), n_layers=1, on_layer=lambda *_: pytest.fail("a layer was built"))


def test_labels_of_more_than_a_mebibyte_are_refused():
    with pytest.raises(ValueError, match="expected labels of at most 1048576 bytes"):
        rn.build(np.eye(2), np.array(["a", "b"], "U300000"), n_layers=1)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (b'["a"]', "json:object"), (b'["b", "a"]', "json:object"), (b'["a", "a"]', "json:object"),
        (b'{"a": 1, "b": 2}', "json:object"), (b'["a", null]', "json:object"), (b"[1, NaN]", "json:object"),
        (b"[[1], [2]]", "json:object"), (b'[{"hex": "00"}, 1]', "json:object"), (b"[1, 2]", "json:StringDType"),
        (b'[{"raw": "<f8", "hex": "00"}, 1]', "json:object"), (b'[{"raw": "O", "hex": "00"}, 1]', "json:object"),
        (b'[{"bytes": 3}, {"bytes": "zz"}]', "json:object"), (b"[" * 99_999, "json:object"),
        (b'["a", "b"]', "json:U1"), (b"\xff\xff\xff\xffaaaa", "raw:<U1"), (b"\0\2", "raw:|b1"), (b"ab", "raw:|S2"),
        (b"ba", "raw:|S1"), (b"ab", "raw:<S1"), (b"\0" * 16, "raw:>f8"),
        (b"\0" * 7 + b"\x80" + b"\0" * 8, "raw:<M8[D]"),
        (b"\0" * 16, "raw:|O"), (b"\0" * 16, "raw:<M8[eon]"), (b"ab", "raw:|V1"), (b"ab", "integer:int8"),
        (np.array([1, 300]), "integer:uint8"), (np.array([1.0, 2.0]), "integer:int64"),
        (np.array([1, 2]), "float:float64"),
        (np.array([1.0, 1e6]), "float:float16"), (np.array([1.0, np.nan]), "float:float64"),
        (np.array([1, 2]), "json:object"),
        (np.array([1, 2]), "integer:i8"), (np.array([1, 2]), "integer"), (np.array([1, 2]), ""),
    ],
)  # fmt: skip
def test_what_encode_never_writes(tensor, words):
    if isinstance(tensor, bytes):
        tensor = np.frombuffer(tensor, np.uint8)
    with pytest.raises((ValueError, TypeError, KeyError, OverflowError, RecursionError)):
        label_codec.decode(tensor, words, 2)
