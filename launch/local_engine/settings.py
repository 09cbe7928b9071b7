"""Everything a run is made of, checked before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ta_opd import Options

from .defaults import EngineDefaults
from .suite import Run

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """defaults: sizes and steps of the engine. options: selection and loss, the selector left to each run.
    prompts: what identifies the problems. device: "cpu" or "cuda"."""

    runs: list[Run]
    options: Options
    defaults: EngineDefaults
    prompts: dict[str, Any]
    device: str

    def fingerprint(self) -> dict[str, Any]:
        """What two runs must share to share a directory; methods and seeds may be added later."""
        return {
            "format_version": FORMAT_VERSION,
            "prompts": self.prompts,
            "engine": asdict(self.defaults),
            "options": asdict(self.options),
            "device": self.device,
        }
