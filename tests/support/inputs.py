"""What somebody could write by mistake: strategies that damage valid files and command lines."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from enum import Enum
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy


class NoFile(Enum):
    """What can be in a file's place."""

    MISSING = "nothing"
    FOLDER = "a folder"


LONG = 20_000
HUGE = (10**30, -(10**30), 2**31, 2**63, -1, 0, 1, 10**400)
TEXTS = (
    *("", " ", "null", "~", "1e6", "yes", "0x_", "2001-99-99", "1:99", "<<", "=", "..", "/", "-", "--", "NaN", "x y"),
    *(
        "lin_",
        "lin_x",
        "lin_-1",
        "lin_nan",
        "warmup_1",
        "warmup_1_0",
        "warmup_1_inf",
        "dict(",
        "[MlpPolicy]",
        "dict(a=1",
    ),
    *(
        "\x00",
        "\x1b[31m",
        "\u202ereversed",
        "\U0001f600",
        "é" * 300,
        "x" * LONG,
        "a\nb\r\nc",
        "{",
        "[",
        '"',
        "%s",
        "\ufeff",
    ),
)
TRICKS = (
    *(b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 1200, b"{a: " * 900, b"- " * 900, b"&a [*a]", b"*a", b"&a"),
    *(b"a: 1\na: 2\n", b"a: 1\n---\nb: 2\n", b"\ta: 1", b"? [a]\n: 1", b"0x_", b"2001-99-99", b"!!int x", b"!!bool x"),
    *(b"!!timestamp x", b"!!float x", b"!!binary x", b"!!set [1]", b"!!omap x", b"!unknown 1", b"{[1]: 2}", b"<<: 3"),
    *(b"{}", b"[]", b"null", b"NaN", b"1e999", b"9" * 5000, b"%YAML 9.9\n---\na", b"a: b: c", b"'", b"a: &x {<<: *x}"),
    b"a: &a [x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (99 + k, 99 + k, b", ".join([b"*%c" % (98 + k if k else 97)] * 8)) for k in range(12)
    ),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 300),
    st.sampled_from(HUGE),
    st.floats(),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
)
odd_values: SearchStrategy[Any] = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=4), st.integers(), st.none()), scalars, max_size=3),
    st.sampled_from([[[]], {"a": {"b": {}}}, [None, None], [{}]]),
)


def _places(value: Any, inside: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((*inside, key), *_places(value[key], (*inside, key)))]


@st.composite
def damaged_documents(draw: DrawFn, valid: Any) -> Any:
    """A nested document with one to three changes: entries dropped, renamed, twice, of another type, elsewhere."""
    document = deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            return deepcopy(draw(odd_values))
        *way, key = draw(st.sampled_from(places))
        owner = document
        for step in way:
            owner = owner[step]
        change = draw(st.sampled_from(["retype", "retype", "retype", "drop", "rename", "wrap", "repeat", "replace"]))
        if change == "drop":
            del owner[key]
        elif change == "wrap":
            owner[key] = draw(st.sampled_from([[owner[key]], {"a": owner[key]}, str(owner[key]), [owner[key]] * 2]))
        elif change == "repeat" and isinstance(owner, list):
            owner.append(deepcopy(owner[key]))
        elif change in ("rename", "repeat") and isinstance(owner, dict):
            owner[draw(st.one_of(st.just(f"{key}s"), st.sampled_from(TEXTS), st.integers(), st.none()))] = owner.pop(
                key
            )
        elif change == "replace":
            return deepcopy(draw(odd_values))
        else:
            owner[key] = deepcopy(draw(odd_values))
    return document


@st.composite
def damaged_bytes(draw: DrawFn, valid: bytes) -> bytes:
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
        elif change == "line":
            lines = content.splitlines(keepends=True)
            if lines:
                lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
            content = b"".join(lines)
        elif change == "encode":
            text = content.decode("utf-8", errors="replace")
            content = text.encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "latin-1"])), errors="replace")
        else:
            what = draw(st.sampled_from(TRICKS)) if change == "trick" else draw(st.binary(min_size=1, max_size=6))
            content = content[:place] + what + content[place:]
    return content


def _yaml(document: Any) -> bytes:
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass")


def _json(document: Any) -> bytes:
    # Keys of several types are texts in JSON
    return json.dumps(document, skipkeys=True).encode()


def _files(valid: bytes, *documents: SearchStrategy[bytes]) -> SearchStrategy[bytes | NoFile]:
    return st.one_of(
        *documents,
        *documents,
        damaged_bytes(valid),
        st.sampled_from(TRICKS),
        st.one_of(st.binary(max_size=64), st.just(valid), st.sampled_from(NoFile)),
    )


def yaml_files(valid: bytes, document: Any, wrap: Callable[[Any], bytes] = _yaml) -> SearchStrategy[bytes | NoFile]:
    """
    :param valid: a valid file
    :param document: what it says
    :param wrap: makes a file of such a document
    """
    return _files(valid, damaged_documents(document).map(wrap))


def json_files(valid: bytes) -> SearchStrategy[bytes | NoFile]:
    """:param valid: a valid file"""
    return _files(valid, damaged_documents(json.loads(valid)).map(_json))


def plain_files(valid: bytes) -> SearchStrategy[bytes | NoFile]:
    """:param valid: a valid file"""
    return _files(valid)


def csv_files(valid: bytes) -> SearchStrategy[bytes | NoFile]:
    """:param valid: a valid file"""
    return _files(valid, _damaged_tables(list(csv.reader(io.StringIO(valid.decode())))))


@st.composite
def _damaged_tables(draw: DrawFn, valid: list[list[str]]) -> bytes:
    rows = deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(["cell", "cell", "cell", "header", "column", "row", "rows", "short", "long"]))
        row = rows[draw(st.integers(0, len(rows) - 1))] if rows else []
        column = draw(st.integers(0, max(0, len(valid[0]) - 1)))
        if change == "column":
            rows = [row[:column] + row[column + 1 :] for row in rows]
        elif change == "row" and rows:
            rows.insert(draw(st.integers(0, len(rows))), list(row))
        elif change == "rows":
            del rows[draw(st.integers(0, len(rows))) :]
        elif change == "short":
            del row[column:]
        elif change == "long":
            row.append(draw(st.sampled_from(TEXTS)))
        else:
            target = rows[0] if change == "header" and rows else row
            if column < len(target):
                target[column] = str(draw(scalars))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="replace")


def zip_files(valid: bytes, member: str, inside: SearchStrategy[bytes]) -> SearchStrategy[bytes | NoFile]:
    """
    :param valid: a valid archive
    :param member: name of a file in it
    :param inside: what is there instead
    """
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}

    def pack(files: dict[str, bytes]) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return packed.getvalue()

    without = st.sampled_from([pack({k: v for k, v in contents.items() if k != name}) for name in contents])
    return _files(valid, inside.map(lambda content: pack(contents | {member: content})), without)


def model_files(valid: bytes) -> SearchStrategy[bytes | NoFile]:
    """:param valid: a model that SB3's ``save()`` wrote"""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        data = archive.read("data")
    settings = json.loads(data)
    # What is pickled stays: who changes that can run anything
    plain = {name: value for name, value in settings.items() if not _is_pickled(value)}
    changed = damaged_documents(plain).map(
        lambda document: (
            _json({**settings, **dict.fromkeys(plain.keys() - document.keys())} | document)
            if isinstance(document, dict)
            else _json(document)
        )
    )
    dropped = st.sampled_from([_json({k: v for k, v in settings.items() if k != name}) for name in settings])
    return zip_files(valid, "data", st.one_of(changed, changed, dropped, damaged_bytes(data)))


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


numbers = st.one_of(
    st.integers(-3, 600).map(str),
    st.sampled_from(HUGE).map(str),
    st.sampled_from(["", "x", "1.5", "1e3", "nan", "inf", "\u0661", "1_000", " 7 ", "0x10", "-", "--seed", "9" * 5000]),
)
words = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8))
paths = st.sampled_from(
    ["out", "out.csv", "out.json", "a/b/c.html", ".", "", "study.yml", "study.yml/in", "x" * 300, "a\x00b", "ü ", "-"]
)
devices = st.one_of(st.sampled_from(["cpu", "auto", "cuda", "cuda:99", "cpu:1", "meta", "mps", "CPU", "cpu:-1"]), words)
flag = None


@st.composite
def argument_lists(
    draw: DrawFn,
    command: Sequence[str],
    positionals: Sequence[SearchStrategy[str]],
    options: dict[str, SearchStrategy[str] | None],
) -> list[str]:
    """
    Options with values good and bad, some of them twice or without their value, and words that belong nowhere.

    :param command: what comes first
    :param positionals: arguments without a name
    :param options: name -> values, None for a flag
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
    return [*command, *arguments]
