"""Pickled namespaces are read as plain values, and nothing else that a pickle can do is done."""

from __future__ import annotations

import builtins
import copyreg
import os
import pickle
import random
import tracemalloc
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from covermap.errors import InputError
from covermap.models.importers.namespace import LARGEST, read_namespace

PROTOCOLS = pytest.mark.parametrize("protocol", range(6))

SETTINGS = {
    "experiment_name": "müller’s run",
    "seed": None,
    "val_freq": 1000,
    "use_s2hr": True,
    "use_s1": False,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 32,
    "model": "deeplab",
    "out_stride": 16,
    "data_dir_train": "/somewhere/with a\nline end\\",
    "numbers": [0, -1, 255, 256, 65_536, -(2**31), 2**40, -(2**63) + 1],
    "rows": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, "", [True, None, 0.5]],
    "table": {"a": {"b": [1.5, -0.25]}, 3: "three"},
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@PROTOCOLS
def test_plain_values_are_read(protocol: int, tmp_path: Path) -> None:
    shared = ["twice"]
    space = Namespace(
        **SETTINGS, one=shared, other=shared, **{f"long_{i}": "x" * i for i in (256,)}
    )
    path = write(tmp_path / "args.pkl", pickle.dumps(space, protocol))
    found = read_namespace(path)
    assert dict(found) == vars(space)
    assert [type(value) for value in found.values()] == [type(v) for v in vars(space).values()]
    with pytest.raises(TypeError):
        found["seed"] = 1  # type: ignore[index]
    empty = write(tmp_path / "empty.pkl", pickle.dumps(Namespace(), protocol))
    assert dict(read_namespace(empty)) == {}


def test_what_python_2_wrote_is_read(tmp_path: Path) -> None:
    data = (
        b"ccopy_reg\n_reconstructor\np0\n(cargparse\nNamespace\np1\nc__builtin__\nobject\np2\n"
        b"Ntp3\nRp4\n(dp5\nS'model'\np6\nS'unet'\np7\nsS'use_s1'\np8\nI01\nsS'lr'\np9\nF0.5\nsb."
    )
    found = read_namespace(write(tmp_path / "args.pkl", data))
    assert dict(found) == {"model": "unet", "use_s1": True, "lr": 0.5}
    binary = b"\x80\x02cargparse\nNamespace\nq\x00)\x81q\x01}q\x02U\x05modelq\x03U\x04unetq\x04sb."
    assert dict(read_namespace(write(tmp_path / "b.pkl", binary))) == {"model": "unet"}


class Call:
    """Pickles into a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Fill:
    """Pickles into a namespace that is filled in another way than usual."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return (copyreg._reconstructor, (Namespace, object, None), *self.parts)  # type: ignore[attr-defined]


@PROTOCOLS
def test_calls_are_refused_and_never_made(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "was here"
    for number, evil in enumerate(
        (
            Call(os.system, f"touch '{marker}'"),
            Call(builtins.exec, f"open({str(marker)!r}, 'w')"),
            Call(builtins.getattr, Namespace, "__init__"),
            Call(Namespace),
            Call(copyreg._reconstructor, Namespace, dict, None),  # type: ignore[attr-defined]
            Call(copyreg._reconstructor, Path, object, None),  # type: ignore[attr-defined]
        )
    ):
        for place, content in enumerate(
            (evil, Namespace(model=evil), Namespace(deep=[{"a": evil}]))
        ):
            path = write(tmp_path / f"{number}-{place}.pkl", pickle.dumps(content, protocol))
            with pytest.raises(InputError, match=r"names '[\w.]+'|calls something"):
                read_namespace(path)
    assert not marker.exists()


@PROTOCOLS
def test_other_objects_are_refused(protocol: int, tmp_path: Path) -> None:
    kinds = (
        Fraction(1, 3),
        Path("a"),
        {1, 2},
        b"bytes",
        1 + 2j,
        SETTINGS,
        Namespace,
        [Namespace()],
    )
    for number, value in enumerate(kinds):
        contents = [value] if number >= 5 else [value, Namespace(a=value)]
        for content in contents:
            path = write(tmp_path / "a.pkl", pickle.dumps(content, protocol))
            with pytest.raises(InputError, match="plain values"):
                read_namespace(path)
    inner = write(tmp_path / "b.pkl", pickle.dumps(Namespace(a=Namespace(b=1)), protocol))
    with pytest.raises(InputError, match="holds something other than plain values"):
        read_namespace(inner)
    named = write(tmp_path / "c.pkl", pickle.dumps(Namespace(a=Namespace), protocol))
    with pytest.raises(InputError, match="holds something other than plain values"):
        read_namespace(named)


NEW = b"\x80\x04\x8c\x08argparse\x8c\x09Namespace\x93)\x81"
"""An empty namespace on the stack."""

CRAFTED = {
    "a name inside a name": (
        b"\x80\x04\x8c\x08argparse\x8c\x12Namespace.__init__\x93.",
        r"names 'argparse\.Namespace\.__init__'",
    ),
    "a module of a module": (
        b"\x80\x04\x8c\x08argparse\x8c\x0a_sys.exit.\x93.",
        r"names 'argparse\._sys\.exit\.'",
    ),
    "a name that is no text": (b"\x80\x04\x8c\x08argparseK\x01\x93.", "a name is no text"),
    "filling the class": (b"cargparse\nNamespace\n}Vx\nI1\nsb.", "it fills a word"),
    "filling a mapping": (b"\x80\x02}}b.", "it fills a dict"),
    "filling with slots": (NEW + b"N}\x8c\x01aK\x01s\x86b.", "other than a mapping"),
    "filling twice": (NEW + b"}\x8c\x01aK\x01sb}\x8c\x01bK\x01sb.", "fills a namespace twice"),
    "a class of its own": (NEW + b"}\x8c\x09__class__K\x01sb.", "entry '__class__'"),
    "a state of its own": (NEW + b"}\x8c\x0c__setstate__K\x01sb.", "entry '__setstate__'"),
    "a number as a name": (NEW + b"}K\x07K\x01sb.", "entry 7"),
    "no name": (NEW + b"}\x8c\x03a bK\x01sb.", "entry 'a b'"),
    "a list as a key": (NEW + b"}]K\x01sb.", "keys are no plain values"),
    "arguments": (b"\x80\x02cargparse\nNamespace\nK\x01\x85\x81}b.", "calls something"),
    "words as arguments": (
        b"\x80\x04cargparse\nNamespace\n)}\x8c\x01aK\x01s\x92.",
        r"instruction \(NEWOBJ_EX\)",
    ),
    "an old instance": (b"(iargparse\nNamespace\n.", r"instruction \(INST\)"),
    "an extension": (b"\x80\x02\x82\x01.", r"instruction \(EXT1\)"),
    "a persistent object": (b"P1\n.", r"instruction \(PERSID\)"),
    "a buffer": (b"\x80\x05\x97.", r"instruction \(NEXT_BUFFER\)"),
    "a long text": (b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.", "is damaged"),
    "an endless text": (b"\x80\x04\x8d" + b"\xff" * 8 + b"a.", "is damaged"),
    "a long frame": (b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.", "other than one"),
    "a negative length": (b"\x80\x02T\xff\xff\xff\xffa.", "is damaged"),
    "a large memo": (b"\x80\x02Nr\xff\xff\xff\xff.", "other than one namespace"),
    "what was never kept": (b"\x80\x02h\x05.", "refers to a value that it does not hold"),
    "many digits": (NEW + b"}\x8c\x01aI" + b"9" * 5000 + b"\nsb.", "is damaged"),
    "many bytes": (NEW + b"}\x8c\x01a\x8a\xff" + b"\x11" * 255 + b"sb.", "more than 64 bits"),
    "no number": (NEW + b"}\x8c\x01aFnan\nsb.", "not finite"),
    "an empty stack": (b"\x80\x02.", "takes values that are not there"),
    "a mark instead": (b"\x80\x02(\x85.", "takes values that are not there"),
    "no mark": (b"\x80\x02Nt.", "a mark is missing"),
    "half a pair": (NEW + b"}(\x8c\x01aub.", "a key without a value"),
    "two values": (b"\x80\x02N" + NEW[2:] + b"}b.", "other than one namespace"),
    "something behind": (NEW + b"}b.N.", "goes on after its end"),
    "nothing": (b"", "is no pickle"),
    "a web page": (b"<!doctype html><html>", "is no pickle"),
    "json": (b'{"model": "unet"}', "is no pickle|is damaged"),
    "a checkpoint": (b"PK\x03\x04" + bytes(60), "is no pickle|is damaged|instruction"),
}


@pytest.mark.parametrize(("data", "message"), CRAFTED.values(), ids=CRAFTED)
def test_what_no_namespace_needs_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "args.pkl", data)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message) as caught:
            read_namespace(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert "name the settings yourself" in str(caught.value)


def test_values_within_values_end_somewhere(tmp_path: Path) -> None:
    doubled: list[Any] = ["x"]
    for _ in range(14):
        doubled = [doubled, doubled]
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(200):
        deep = (deep,)
    for value in (doubled, endless, deep, list(range(20_000))):
        path = write(tmp_path / "args.pkl", pickle.dumps(Namespace(a=value), 4))
        with pytest.raises(InputError, match="within values without an end"):
            read_namespace(path)


def test_a_large_mapping_is_not_filled_in_again_and_again(tmp_path: Path) -> None:
    many = b"".join(b"\x8c\x06%06dN" % number for number in range(50_000))
    data = NEW + b"}(" + many + b"u\x94b" + b"h\x00b" * 100_000 + b"."  # it would take hours
    with pytest.raises(InputError, match="fills a namespace twice"):
        read_namespace(write(tmp_path / "args.pkl", data))


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "args.pkl", pickle.dumps(Namespace(a="x" * LARGEST)))
    with pytest.raises(InputError, match=r"is larger than 1,048,576 bytes"):
        read_namespace(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; expected a pickled argparse namespace"):
        read_namespace(tmp_path / "args.pkl")
    with pytest.raises(InputError, match="a folder; expected"):
        read_namespace(tmp_path)


@PROTOCOLS
def test_files_cut_short_are_refused(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(Namespace(**SETTINGS), protocol)
    for end in range(0, len(data), 7):
        with pytest.raises(InputError, match=r"args\.pkl"):
            read_namespace(write(tmp_path / "args.pkl", data[:end]))


@PROTOCOLS
def test_changed_bytes_end_in_an_error_or_in_plain_values(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(Namespace(**SETTINGS), protocol)
    draw = random.Random(protocol)
    read = 0
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        try:
            found = read_namespace(write(tmp_path / "args.pkl", bytes(changed)))
        except InputError:
            continue
        read += 1
        assert all(isinstance(name, str) for name in found)
        kinds = bool | int | float | str | list | tuple | dict | None
        assert all(isinstance(value, kinds) for value in found.values())
    assert 0 < read < 150
