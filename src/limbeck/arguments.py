"""Words of the command line -> dataclasses, by tyro; mistakes in one line instead of tyro's box."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import tyro

from limbeck.errors import BadSetting, unknown


def parse(cls: Any, words: list[str], prog: str) -> Any:
    """Words -> an instance of the dataclass.

    Raises:
        UnknownName, BadSetting: a mistake, in one line.
    """
    _check_names(cls, words)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(
                cls, args=words, prog=f"limbeck {prog}", config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise BadSetting(f"{_one_line(box.getvalue())}; see limbeck {prog.split()[0]} --help") from None


def with_settings(options: Any, settings: Any, words: list[str], prog: str) -> tuple[Any, Any]:
    """A verb's options and a method's settings, side by side without prefixes."""
    both = dataclasses.make_dataclass(
        "Options",
        [("run_", Annotated[options, tyro.conf.arg(name="")]), ("method_", type(settings), dataclasses.field(default=settings))],
    )
    parsed = parse(both, words, prog)
    return parsed.run_, parsed.method_


def _check_names(cls: Any, words: list[str]) -> None:
    """Options by name, before anything else: the nearest one is worth more than what a parser would say."""
    known = [f"--{name.replace('_', '-')}" for name in _field_names(cls)]
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in (*known, "--help"):
            raise unknown("option", name, known)


def _field_names(cls: Any) -> Iterator[str]:
    for field in dataclasses.fields(cls):
        nested = field.default if dataclasses.is_dataclass(field.default) else get_args(field.type)[:1]
        if nested and dataclasses.is_dataclass(nested[0] if isinstance(nested, tuple) else nested):
            yield from _field_names(nested[0] if isinstance(nested, tuple) else nested)
        else:
            yield field.name


def _one_line(box: str) -> str:
    """What tyro says in a box, as a sentence."""
    lines = (re.sub(r"^[-─+╭╰]*[-─]{3,}[-─+╮╯]*$", "", line.strip("│|╭╮╰╯─ ")).strip() for line in box.splitlines())
    text = " ".join(line for line in lines if line)
    for pattern, sentence in _SENTENCES.items():
        found = re.search(pattern, text)
        if found:
            return sentence.format(*found.groups())
    return text


_SENTENCES = {
    r"Error parsing (--\S+): .*'([^']*)' Argument helptext: --\S+ (?:\{None\}\|)?(\w+)": "{0} needs {2}, not '{1}'",
    r"Error parsing (--\S+): (.*) Argument helptext": "{0}: {1}",
    r"Missing value for argument '(--\S+)'": "{0} needs a value",
    r"Missing from limbeck \S+.*?: (--\S+) (\w+)": "{0} {1} is missing",
    r"Missing from limbeck": "an argument is missing",
    r"Unrecognized options: (\S+)": "'{0}' is one word too many",
}
"""what tyro says, and how it is said here"""
