"""What an audit gives: frames to work with, gates, the reports that were written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenscope.evidence.report import Report
from tokenscope.evidence.reports.html import page
from tokenscope.evidence.reports.tables import SCHEMA, rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False)
class Audit:
    """A finished audit. ``written``: the reports by format, in ``folder``."""

    report: Report
    written: dict[str, Path]
    errors_are_fine: bool = False
    _keep: Any = field(default=None, repr=False)  # a temporary folder lives as long as this

    @property
    def folder(self) -> Path:
        """Where journal and reports are."""
        return self.report.folder

    @property
    def state(self) -> str:
        """passed, failed, undecided, or "no gates"."""
        return self.report.state

    @property
    def exit_code(self) -> int:
        """0 passed; 1 a gate failed or could not be decided; 2 some input could not be used (and
        the policy does not say ``on_error = "skip"``)."""
        if self.state in ("failed", "undecided"):
            return 1
        return 2 if self.report.errors_total and not self.errors_are_fine else 0

    @property
    def gates(self) -> pd.DataFrame:
        """One row per gate, worst first."""
        import pandas as pd

        names = ("gate", "state", "value", "lower", "upper", "n", "limit", "margin", "method")
        made = [
            (str(v.gate), v.state, v.bound.value, v.bound.lower, v.bound.upper, v.bound.n,
             v.gate.limit, v.margin, v.bound.method)
            for v in self.report.verdicts
        ]  # fmt: skip
        return pd.DataFrame(made, columns=list(names))

    @property
    def figures(self) -> pd.DataFrame:
        """One row per figure: value, lower, upper, n, method."""
        import pandas as pd

        held = self.report.figures.shown()
        return pd.DataFrame(
            [{"figure": n, "value": b.value, "lower": b.lower, "upper": b.upper, "n": b.n,
              "method": b.method} for n, b in held.items()]
        )  # fmt: skip

    def figure(self, name: str) -> Any:
        """One figure as a Bound, of any name that a gate may have. Raises UnknownName."""
        return self.report.figures.figure(name)

    @property
    def findings(self) -> pd.DataFrame:
        """One row per finding, see ``evidence.reports.tables``."""
        import pandas as pd

        return pd.DataFrame(list(rows(self.report)), columns=SCHEMA.names)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per sample: case, sample, seed, language, finish, parses, findings, text."""
        import pandas as pd

        made = [
            {
                "case": r["case"], "sample": s["sample"], "seed": s["seed"],
                "language": s["language"], "finish": s["finish"], "parses": s["parses"],
                "tokens": len(s["tokens"]["ids"]), "findings": len(s["findings"]),
                "text": s["text"],
            }
            for r in self.report.cases()
            for s in r["samples"]
        ]  # fmt: skip
        return pd.DataFrame(made)

    def _repr_html_(self) -> str:
        """The whole report, in a frame of its own that may run nothing."""
        from html import escape

        return (
            f'<iframe sandbox="" style="width:100%;height:36rem;border:0" '
            f'srcdoc="{escape(page(self.report), quote=True)}"></iframe>'
        )
