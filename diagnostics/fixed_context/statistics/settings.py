"""What the analyses have in common: quantiles, replicates, and which columns of a file are what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What the analyses have in common; the flags of the same names. Raises ValueError on a value out of range."""

    q_low: float = 0.05
    q_high: float = 0.95
    h_quantile: float = 0.5
    d_quantile: float = 0.5
    low_c_quantile: float = 1 / 3
    high_c_quantile: float = 2 / 3
    winsor_low: float = 0.01
    winsor_high: float = 0.99
    use_quadrant: bool = False
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for low, high in (("q_low", "q_high"), ("low_c_quantile", "high_c_quantile"), ("winsor_low", "winsor_high")):
            a, b = getattr(self, low), getattr(self, high)
            if not 0 <= a < b <= 1:
                raise ValueError(f"{_flag(low)} {a} and {_flag(high)} {b} must satisfy 0 <= low < high <= 1")
        for name in ("h_quantile", "d_quantile"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{_flag(name)} {getattr(self, name)} is outside 0..1 (both excluded)")
        if self.bootstrap < 2:
            raise ValueError(f"--bootstrap {self.bootstrap} must be 2 or more")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed} must be 0 or more")


DEFAULTS = Settings()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Columns:
    """Which columns of the file are what; names of baseline columns without base_."""

    gain: str = "G_KLf"
    h: str = "Hs"
    d: str = "KLf_union"
    c: str = "Cmass_exact"
    ht: str = "Ht"
    position: str = "pos_norm"
    group: str = "prompt_id"


DEFAULT_COLUMNS = Columns()
