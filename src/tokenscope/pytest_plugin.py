"""A pytest plugin: models under test. ``pytest -p tokenscope.pytest_plugin``, or in conftest.py
``pytest_plugins = ["tokenscope.pytest_plugin"]``.

    def test_area(tokenscope_trace):
        made = tokenscope_trace("def area(r):", max_new_tokens=16)
        made.parses().finds_nothing(cwe=78).surprisal_below(9.0)

``--tokenscope-model`` names the model (default: the bundled one); it is loaded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tokenscope.runs.model import Model
    from tokenscope.trace import Trace


@dataclass(frozen=True)
class Made:
    """A trace under test; each assertion gives it back, so that they can be written in a row."""

    trace: Trace

    @property
    def text(self) -> str:
        """The whole text."""
        return self.trace.text

    def parses(self) -> Made:
        """What was generated is, or can still become, a program."""
        found = self._found(("syntax",))
        assert not found, f"{found[0].message} (byte {found[0].start})"
        return self

    def finds_nothing(self, cwe: int = 0, rule: str = "") -> Made:
        """No check detects anything that touches what was generated (of this CWE, by this rule)."""
        found = [
            f for f in self._found(())
            if f.source != "syntax" and (not cwe or f.cwe == cwe) and (not rule or f.rule == rule)
        ]  # fmt: skip
        assert not found, f"analyser-detected: {found[0].rule} at byte {found[0].start}"
        return self

    def surprisal_below(self, nats: float) -> Made:
        """No generated token is as surprising as that."""
        values = self.trace.column("surprisal")[self.trace.n_prompt :]
        worst = float(values.max()) if len(values) else 0.0
        assert worst < nats, f"a token has a surprisal of {worst:.3g} nats"
        return self

    def _found(self, checks: tuple[str, ...]) -> Any:
        return self.trace.view("findings", checks, part="generated")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the model."""
    parser.addoption("--tokenscope-model", default=None, help="Folder, hub id or name of a model.")


@pytest.fixture(scope="session")
def tokenscope_model(request: pytest.FixtureRequest) -> Model:
    """The model, loaded once."""
    from tokenscope.runs.model import load

    return load(request.config.getoption("--tokenscope-model"))


@pytest.fixture
def tokenscope_trace(tokenscope_model: Model) -> Callable[..., Made]:
    """``tokenscope_trace(prompt, **settings)`` decodes, as ``Model.generate`` does."""

    def made(prompt: str, **settings: Any) -> Made:
        return Made(tokenscope_model.generate(prompt, **settings))

    return made
