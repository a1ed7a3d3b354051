"""Rows of measurements, their table and their JSON."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from typing import Any

# How a unit is printed: divisor and format.
_UNITS = {"ms": (1.0, "{:.1f} ms"), "tps": (1.0, "{:.0f}/s"), "bytes": (1e6, "{:.2f} MB")}
_HEADER = ("what", "sandbox", "native", "ratio", "spread", "bound", "")


@dataclasses.dataclass(frozen=True)
class Bound:
    """A figure to reach: of the ratio sandbox/native, or of the sandbox's value in the row's unit."""

    of: str  # ratio, value
    limit: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value reaches it."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclasses.dataclass
class Row:
    """One thing measured: samples by round, the sandbox's and, where there is one, native's.

    `unit` is ms, tps or bytes. Samples of the same index are of the same round.
    """

    part: str
    what: str
    unit: str
    sandbox: list[float]
    native: list[float] = dataclasses.field(default_factory=list)
    bounds: tuple[Bound, ...] = ()

    @property
    def value(self) -> float:
        """The sandbox's median."""
        return statistics.median(self.sandbox)

    @property
    def ratio(self) -> float | None:
        """The ratio of the medians, None without a native side."""
        return self.value / statistics.median(self.native) if self.native else None

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and highest round: of its ratio, else of its value."""
        each = [mine / other for mine, other in zip(self.sandbox, self.native)] or self.sandbox
        return min(each), max(each)

    @property
    def verdict(self) -> str:
        """`ok`, `MISS`, or empty for a row that has no bound."""
        if not self.bounds:
            return ""
        reached = (
            bound.holds(self.ratio if bound.of == "ratio" and self.ratio is not None else self.value)
            for bound in self.bounds
        )
        return "ok" if all(reached) else "MISS"

    def cells(self) -> tuple[str, ...]:
        """The row as it is printed."""
        divisor, form = _UNITS[self.unit]

        def show(value: float) -> str:
            return form.format(value / divisor)

        low, high = self.spread
        return (
            self.what,
            show(self.value),
            show(statistics.median(self.native)) if self.native else "",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            f"{low:.2f} - {high:.2f}" if self.native else f"{show(low)} - {show(high)}",
            ", ".join(
                f"{'>=' if bound.at_least else '<='} "
                + (f"{bound.limit:g}x" if bound.of == "ratio" else show(bound.limit))
                for bound in self.bounds
            ),
            self.verdict,
        )

    def fields(self) -> dict[str, Any]:
        """The row for JSON: medians and every sample, in the unit's own size (bytes, not MB)."""
        return {
            "part": self.part,
            "what": self.what,
            "unit": self.unit,
            "sandbox": self.value,
            "native": statistics.median(self.native) if self.native else None,
            "ratio": self.ratio,
            "spread": list(self.spread),
            "bounds": [dataclasses.asdict(bound) for bound in self.bounds],
            "verdict": self.verdict,
            "samples": {"sandbox": self.sandbox, "native": self.native},
        }


def table(rows: list[Row]) -> str:
    """The rows as aligned text, a line each, the parts with a heading."""
    cells = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]

    def line(fields: tuple[str, ...]) -> str:
        padded = [fields[0].ljust(widths[0])]
        padded += [field.rjust(width) for field, width in zip(fields[1:6], widths[1:6])]
        return "  ".join([*padded, fields[6]]).rstrip()

    lines, part = [line(_HEADER)], ""
    for row in rows:
        if row.part != part:
            part = row.part
            lines += ["", f"{part}:"]
        lines.append(line(row.cells()))
    return "\n".join(lines)


def write(path: pathlib.Path, host: dict[str, Any], rows: list[Row]) -> None:
    """Write the JSON file, and the directory it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"version": 1, "host": host, "rows": [row.fields() for row in rows]}
    path.write_text(json.dumps(document, indent=2) + "\n")
