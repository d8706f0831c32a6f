"""What somebody could write by mistake: strategies that damage valid files and command lines."""

import csv
import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy


class NoFile(Enum):
    MISSING = "nothing"
    FOLDER = "a folder"


HUGE = (10**30, -(10**30), 2**31, 2**63, -1, 0, 1, 10**400)
TEXTS = (
    *("", " ", "null", "~", "1e6", "yes", "0x_", "2001-99-99", "1:99", "<<", "=", "..", "/", "-", "--", "NaN", "x y"),
    *("lin_", "lin_x", "lin_-1", "lin_nan", "warmup_1", "warmup_1_0", "warmup_1_inf", "dict(", "[MlpPolicy]"),
    *("dict(a=1", "\x00", "\x1b[31m", "\u202ereversed", "\U0001f600", "é" * 300, "x" * 20_000, "a\nb\r\nc"),
    *("{", "[", '"', "%s", "\ufeff"),
)
# Eight aliases of eight aliases of ...
BOMB = b"a: &a [x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (99 + k, 99 + k, b", ".join([b"*%c" % (98 + k if k else 97)] * 8)) for k in range(12)
)
MANY_KEYS = b"{%s}" % b",".join(b'"k%d": 1' % k for k in range(30_000))  # JSON and YAML
TRICKS = (
    *(b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 1200, b"{a: " * 900, b"- " * 900, b"&a [*a]", b"*a", b"&a"),
    *(b"a: 1\na: 2\n", b"a: 1\n---\nb: 2\n", b"\ta: 1", b"? [a]\n: 1", b"0x_", b"2001-99-99", b"!!int x", b"!!bool x"),
    *(b"!!timestamp x", b"!!float x", b"!!binary x", b"!!set [1]", b"!!omap x", b"!unknown 1", b"{[1]: 2}", b"<<: 3"),
    *(b"{}", b"[]", b"null", b"NaN", b"1e999", b"9" * 5000, b"%YAML 9.9\n---\na", b"a: b: c", b"'", b"a: &x {<<: *x}"),
    BOMB,
    MANY_KEYS,
)
texts = st.sampled_from(TEXTS)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 300), st.sampled_from(HUGE), st.floats(), texts, st.text(max_size=8)
)
odd_values: SearchStrategy[Any] = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.text(max_size=4) | st.integers() | st.none(), scalars, max_size=3),
    st.sampled_from([[[]], {"a": {"b": {}}}, [None, None], [{}]]),
)


def _places(value: Any, inside: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((*inside, key), *_places(value[key], (*inside, key)))]


def _inside(document: Any, way: Iterable[Any]) -> Any:
    for step in way:
        document = document[step]
    return document


def _multiply(owner: Any, key: Any, times: int) -> None:
    """Put an entry of a dictionary or list into it that many times, up to a few megabytes in all."""
    times = min(times, 4_000_000 // len(repr(owner[key])))
    if isinstance(owner, dict):
        owner |= {f"{key}{k}": owner[key] for k in range(times)}
    else:
        owner.extend([owner[key]] * times)


@st.composite
def _documents(draw: DrawFn, valid: Any, most: int = 1000) -> Any:
    """
    A nested document with one to three changes: entries dropped, renamed, twice, of another type, elsewhere, or once up
    to ``most`` times.
    """
    document = deepcopy(valid)
    if draw(st.integers(0, 19)) == 0:
        *way, key = draw(st.sampled_from(_places(document)))
        _multiply(_inside(document, way), key, draw(st.sampled_from([10, 100, most])))
        return document
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        change = draw(st.sampled_from(["retype", "retype", "retype", "drop", "rename", "wrap", "repeat", "replace"]))
        if change == "replace" or not places:
            return deepcopy(draw(odd_values))
        *way, key = draw(st.sampled_from(places))
        owner = _inside(document, way)
        if change == "drop":
            del owner[key]
        elif change == "wrap":
            owner[key] = draw(st.sampled_from([[owner[key]], {"a": owner[key]}, str(owner[key]), [owner[key]] * 2]))
        elif change == "repeat" and isinstance(owner, list):
            owner.append(deepcopy(owner[key]))
        elif change in ("rename", "repeat") and isinstance(owner, dict):
            name = draw(st.one_of(st.just(f"{key}s"), texts, st.integers(), st.none()))
            owner[name] = owner.pop(key)
        else:
            owner[key] = deepcopy(draw(odd_values))
    return document


def _tables(valid: bytes) -> SearchStrategy[bytes]:
    """A CSV file with changes in its rows or in its columns."""
    rows = list(csv.reader(io.StringIO(valid.decode())))
    columns = [list(column) for column in zip_longest(*rows, fillvalue="")]

    def lists(document: Any) -> list[list[Any]]:
        lines = document if isinstance(document, list) else [document]
        return [line if isinstance(line, list) else [line] for line in lines]

    def write(table: Iterable[Iterable[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows(table)
        return text.getvalue().encode(errors="replace")

    by_columns = _documents(columns).map(lambda document: write(zip_longest(*lists(document), fillvalue="")))
    return _documents(rows).map(lambda document: write(lists(document))) | by_columns


@st.composite
def _bytes(draw: DrawFn, valid: bytes) -> bytes:
    """A file cut short, with bits flipped, with something in it that does not belong there, or with lines twice."""
    content = valid
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        change = draw(st.sampled_from(["cut", "flip", "insert", "delete", "line", "line", "encode", "trick"]))
        if change == "cut":
            content = content[:place]
        elif change == "flip" and place < len(content):
            flipped = content[place] ^ (1 << draw(st.integers(0, 7)))
            content = content[:place] + bytes([flipped]) + content[place + 1 :]
        elif change == "delete":
            content = content[:place] + content[place + draw(st.integers(1, 40)) :]
        elif change == "line" and content:
            lines = content.splitlines(keepends=True)
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
            content = b"".join(lines)
        elif change == "encode":
            text = content.decode("utf-8", errors="replace")
            content = text.encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "latin-1"])), errors="replace")
        else:
            what = draw(st.sampled_from(TRICKS)) if change == "trick" else draw(st.binary(min_size=1, max_size=6))
            content = content[:place] + what + content[place:]
    return content


def to_yaml(document: Any) -> bytes:
    """As YAML; an ordered dictionary at the top as the zoo writes it, with Python's own type."""
    dump = yaml.dump if isinstance(document, OrderedDict) else yaml.safe_dump
    return dump(document, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass")


def _to_json(document: Any) -> bytes:
    return json.dumps(document, skipkeys=True).encode()


def _saved_models(valid: bytes) -> SearchStrategy[bytes]:
    """Models of SB3's ``save()`` whose settings are changed, except for pickles: changing those can run anything."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    settings = json.loads(contents["data"])
    plain = {name: value for name, value in settings.items() if ":serialized:" not in str(value)}

    def pack(data: bytes, without: str | None = None) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in [name for name in contents if name != without]:
                archive.writestr(name, data if name == "data" else contents[name])
        return packed.getvalue()

    def with_settings(document: Any) -> bytes:
        gone = dict.fromkeys(plain.keys() - document.keys()) if isinstance(document, dict) else {}
        return pack(_to_json(settings | gone | document if isinstance(document, dict) else document))

    dropped = [{key: value for key, value in settings.items() if key != name} for name in settings]
    return st.one_of(
        *[_documents(plain).map(with_settings)] * 2,
        st.sampled_from(dropped).map(_to_json).map(pack),
        _bytes(contents["data"]).map(pack),
        st.sampled_from(sorted(contents)).map(lambda name: pack(contents["data"], name)),
    )


PART = {"type": "Box", "low": -1.0, "high": 1.0, "shape": [3], "dtype": "float32"}
PARTS = [PART, {"type": "Discrete", "n": 2, "start": 0}, {"type": "MultiBinary", "n": 2}]
counts = st.sampled_from([1, 2, 20, 1000, 60_000])


@st.composite
def _large_exports(draw: DrawFn, valid: bytes) -> bytes:
    """The settings of an export with many keys, policies or layers."""
    content = json.loads(valid)
    parts = dict.fromkeys(map(str, range(draw(counts))), draw(st.sampled_from(PARTS)))
    content["observation_space"] = {"type": "Dict", "spaces": parts}
    content["settings"]["policy_class"] = {"$class": "stable_baselines3.MultiInputActorCriticPolicy"}
    content["settings"]["policy_kwargs"] = {"net_arch": [1] * draw(counts)}
    content["settings"]["n_policies"] = draw(counts)
    return _to_json(content)


def _tensors(valid: bytes) -> SearchStrategy[bytes]:
    """A safetensors file with changes to the names and shapes of its tensors."""
    length = int.from_bytes(valid[:8], "little")
    header, data = json.loads(valid[8 : 8 + length]), valid[8 + length :]

    def pack(document: Any) -> bytes:
        text = _to_json(document)
        return len(text).to_bytes(8, "little") + text + data

    return _documents(header, 30_000).map(pack)


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 2**20, 2**26, 2**30, 2**34, 2**62]), max_size=3).map(tuple)
arrays = st.tuples(shapes, st.sampled_from([b"", bytes(16), bytes(48), bytes(2**20)]))


def array_file(content: dict[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    """An ``.npz`` file of float64 arrays, from the shapes that they are said to have and the bytes that they have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (shape, data) in content.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", header.getvalue() + data)
    return buffer.getvalue()


def damaged_files(name: str, valid: bytes) -> SearchStrategy[bytes | NoFile]:
    """Damage to the bytes of a file, and to what they mean if its name says how to read it."""
    by_meaning = {
        ".yml": lambda: _documents(yaml.unsafe_load(valid)).map(to_yaml),
        ".json": lambda: _documents(json.loads(valid), 50_000).map(_to_json),
        ".safetensors": lambda: _tensors(valid),
        ".npz": lambda: st.fixed_dictionaries(dict.fromkeys(("timesteps", "results"), arrays)).map(array_file),
        ".csv": lambda: _tables(valid),
        ".zip": lambda: _bytes(valid) if "checkpoint" in name else _saved_models(valid),
    }.get(Path(name).suffix, lambda: _bytes(valid))()
    return st.one_of(
        by_meaning,
        _large_exports(valid) if name.endswith("config.json") else by_meaning,
        _bytes(valid),
        st.sampled_from(TRICKS),
        st.one_of(st.binary(max_size=64), st.just(valid), st.sampled_from(NoFile)),
    )


words = st.one_of(texts, st.text(max_size=8))
numbers = st.one_of(
    st.integers(-3, 600).map(str),
    st.sampled_from(HUGE).map(str),
    st.sampled_from(["", "x", "1.5", "1e3", "nan", "inf", "\u0661", "1_000", " 7 ", "0x10", "-", "--seed", "9" * 5000]),
)
paths = st.sampled_from(
    ["out", "out.csv", "out.json", "a/b/c.html", ".", "", "study.yml", "study.yml/in", "x" * 300, "a\x00b", "ü ", "-"]
)
devices = st.one_of(st.sampled_from(["cpu", "auto", "cuda", "cuda:99", "cpu:1", "meta", "mps", "CPU", "cpu:-1"]), words)


@st.composite
def argument_lists(
    draw: DrawFn,
    command: str,
    positionals: Sequence[SearchStrategy[str]],
    options: dict[str, SearchStrategy[str] | None],
) -> list[str]:
    """
    Options with values good and bad, some of them twice or without their value, and words that belong nowhere.

    :param options: names -> values, None for a flag
    """
    arguments = [draw(positional) for positional in positionals]
    if arguments and draw(st.integers(0, 19)) == 0:
        del arguments[draw(st.integers(0, len(arguments) - 1))]
    for name in draw(st.lists(st.sampled_from(sorted(options)), max_size=4)):
        arguments.append(name)
        values = options[name]
        if values is not None and draw(st.integers(0, 19)):
            arguments.append(draw(values))
    if draw(st.integers(0, 9)) == 0:
        arguments.insert(draw(st.integers(0, len(arguments))), draw(st.one_of(words, st.just("--no-such-option"))))
    return [*command.split(), *arguments]
