"""configs/methods/<method>.yaml: what a method's run is set to, in keys that slime's --custom-config-path takes too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ta_opd.option_fields import PREFIX, field_values
from ta_opd.slime_options import SlimeOptions

from .opd_variables import GIVEN_BY_THE_RUN
from .pair_files import CONFIGS


def method_path(method: str) -> Path:
    return CONFIGS / "methods" / f"{method}.yaml"


def read_method(path: Path) -> dict[str, Any]:
    """Fields of SlimeOptions that the file sets.

    Raises ValueError naming the file: not a YAML table, a key without opd_ (slime would set it as one of its own
    arguments), an unknown key (with the nearest known one), a value out of range, a setting that does nothing.
    """
    try:
        table = yaml.load(path.read_text(encoding="utf-8"), Loader=_Once)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise ValueError(f"{path} is not a table of opd_... keys")
    for key in table:
        if not key.startswith(PREFIX) or "-" in key:
            raise ValueError(f"{path}: key {key!r} does not begin with {PREFIX}: slime would take it for its own")
        if key.removeprefix(PREFIX) in GIVEN_BY_THE_RUN:
            raise ValueError(f"{path}: {key} is not a method's: {GIVEN_BY_THE_RUN[key.removeprefix(PREFIX)]}")
    try:
        values = field_values(SlimeOptions, table)
        SlimeOptions(**values).check_read()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return values


class _Once(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)
