"""What the text of a variable must look like: each kind checks it and gives it back in one spelling."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

_SWITCH = {"0": "0", "1": "1", "false": "0", "true": "1", "no": "0", "yes": "1"}


@dataclass(frozen=True)
class Variable:
    """One setting of the launchers, as text.

    default: what it is when nobody gives it; empty: `derived` says what happens. least, most: of a number.
    frozen: a begun run refuses another value, since its results would be a mixture. required: BACKEND=slime needs it.
    """

    name: str
    group: str
    default: str
    kind: str
    meaning: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    frozen: bool = True
    derived: str = ""

    def parse(self, text: str) -> str:
        """The text in its one spelling. Raises ValueError with the name, the value and what is allowed."""
        if "\0" in text or ("\n" in text and self.kind != "words"):
            raise ValueError(f"{self.name} {text!r} has a line break or a zero byte in it")
        value = KINDS[self.kind](self, text)
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name} {text!r} is not one of {', '.join(self.choices)}")
        return value

    def _in_range(self, number: float, text: str) -> None:
        if not self.least <= number <= self.most:
            bound = f"{self.least:.15g}..{self.most:.15g}" if self.most != math.inf else f"{self.least:.15g} or more"
            raise ValueError(f"{self.name} {text} is outside {bound}")


def _text(variable: Variable, text: str) -> str:
    return text


def _integer(variable: Variable, text: str) -> str:
    if not re.fullmatch(r"-?[0-9]{1,18}", text.strip()):
        raise ValueError(f"{variable.name} {text!r} is not a whole number")
    number = int(text)
    variable._in_range(number, text)
    return str(number)


def _number(variable: Variable, text: str) -> str:
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError(f"{variable.name} {text!r} is not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{variable.name} {text!r} is not a finite number")
    variable._in_range(number, text)
    return text.strip()


def _switch(variable: Variable, text: str) -> str:
    if text.strip().lower() not in _SWITCH:
        raise ValueError(f"{variable.name} {text!r} is not 0 or 1")
    return _SWITCH[text.strip().lower()]


def _words(variable: Variable, text: str) -> str:
    split_words(variable.name, text)
    return text


def _name(variable: Variable, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text):
        raise ValueError(f"{variable.name} {text!r} is not a name of letters, digits, dot, dash, plus and underscore")
    return text


def _port(variable: Variable, text: str) -> str:
    if re.match(r"(tcp|udp)://", text):
        raise ValueError(
            f"{variable.name} {text!r} is what Kubernetes tells about a service of that name, not a port: unset it, or "
            "set enableServiceLinks: false"
        )
    return _integer(variable, text)


def _gpus(variable: Variable, text: str) -> str:
    names = split_list(text)
    for name in names:
        if not re.fullmatch(r"[0-9]{1,4}|(GPU|MIG)-[A-Za-z0-9/-]+", name):
            raise ValueError(f"{variable.name} {text!r}: {name!r} is not a GPU's number or UUID")
    numbers = [str(int(name)) if name.isdigit() else name for name in names]
    for name in numbers:
        if numbers.count(name) > 1:
            raise ValueError(f"{variable.name} {text!r} names GPU {name} twice")
    return ",".join(numbers)


def _gpu_numbers(variable: Variable, text: str) -> str:
    for name in split_list(text):
        if not name.isdigit():
            raise ValueError(f"{variable.name} {text!r}: {name!r} is not a GPU's number, and slime reads numbers alone")
    return _gpus(variable, text)


def _seeds(variable: Variable, text: str) -> str:
    parts = split_list(text)
    if not parts or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise ValueError(f'{variable.name} {text!r} is not a list of whole numbers 0..999999999, like "1 2 3"')
    seeds = [str(int(part)) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{variable.name} {text!r} names a seed twice")
    return " ".join(seeds)


KINDS: dict[str, Callable[[Variable, str], str]] = {
    "text": _text,
    "path": _text,
    "integer": _integer,
    "number": _number,
    "switch": _switch,
    "choice": _text,
    "words": _words,
    "name": _name,
    "port": _port,
    "gpus": _gpus,
    "gpu numbers": _gpu_numbers,
    "seeds": _seeds,
    "methods": _text,
    "urls": _text,
}


def split_list(text: str) -> list[str]:
    """Entries between commas and white space."""
    return [part for part in re.split(r"[\s,]+", text) if part]


def split_words(name: str, text: str) -> list[str]:
    """Words as a shell splits them, nothing expanded. Raises ValueError naming the variable."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} cannot be split into shell words: {str(error).lower()}") from error
