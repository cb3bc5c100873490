"""Explaining a model whose inside is out of reach (a GGUF file): leave tokens out, ask again.

Every text without a group of tokens is a branch of the text itself: what stands before the group is
shared, what follows it is fed once more. Or the last token is read again and again, each time with
one key hidden from it (attention knockout), where llama.cpp's masks can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tokenscope.backends.protocol import Feed, Full, Hidden
from tokenscope.control import QUIET, Control
from tokenscope.decode.engine import Engine
from tokenscope.errors import AbilityError
from tokenscope.explain.explanation import Explanation, Table
from tokenscope.explain.guard import tolerance
from tokenscope.explain.places import phrase, token_lines
from tokenscope.runs.explain import Explaining, target_of
from tokenscope.trace.record import Trace

METHOD = "erasure"
KNOCKOUT = "attention_knockout"
WHOLE = 256  # tokens that are left out one by one; a longer text goes by lines first
OPENED = 128  # tokens of it that are then looked at one by one
TOGETHER = 8  # texts in one pass


class Outside(Explaining):
    """``Explaining`` by distributions alone. Raises AbilityError for any other method than
    ``occlusion`` (which becomes ``erasure`` here) and, where attention is seen,
    ``attention_knockout``; it names the model's twin if it has one."""

    def __init__(
        self, engine: Engine, trace: Trace, at: int, contrast: str | int | None = None,
        method: str = "occlusion", token: str | int | None = None, also: Sequence[str] = (),
        control: Control = QUIET,
    ) -> None:  # fmt: skip
        cuts = method == KNOCKOUT and engine.abilities.attention
        if method not in ("occlusion", METHOD) and not cuts:
            raise AbilityError(f"{method} {self._needs(engine)}; erasure works here")
        self.name = KNOCKOUT if cuts else METHOD
        self.engine, self.trace, self.also, self.control = engine, trace, tuple(also), control
        self.target = target_of(engine, trace, at, contrast, token)
        self.target.check(len(trace), int(engine.info.vocab or 0))
        self.ids = [int(i) for i in trace.ids[:at]]

    def attribution(self) -> Explanation:
        """v_i = f(x) - f(x without token i), float32 (at,), nats; 0 for special tokens in front.
        Knockout: - f(x where the last query cannot read key i), of every token.

        Raises AbilityError where f(x) is not the recorded logprob.
        """
        target, n = self.target, self.target.at
        with self.engine.turn:
            state = self.engine.prefixes.take(self.ids, n - 1)
            base = self._read([(state, self.ids[len(state.ids) :])])[0]
        self._check(base)
        value = float(target.of(base[None])[0])
        start = int(np.argmin([*self.trace.tokens.special[:n], False]))
        if self.name == KNOCKOUT:
            values, note = np.float32(value) - self._hidden(state), ""
        else:
            values, note = self._values(state, value, start)
        self.engine.prefixes.put(state)
        logp = base.log_softmax(-1)
        a, b = self.show(target.a), None if target.b is None else self.show(target.b)
        words = self._sentence(values, value, a, b)
        return Explanation(
            self.trace, target, a, b, self.name, values, value, None, True, note, words, (),
            float(logp[target.a]), None if target.b is None else float(logp[target.b]), None,
        )  # fmt: skip

    def table(self, made: Explanation, name: str) -> Table:
        """Regions need no inside; every other table is refused."""
        if name == "regions":
            from tokenscope.explain.explanation import region_sums

            rows = region_sums(self.trace, made.values, "statement")
            return Table(name, tuple(rows), (self.name,))
        return Table(name, (), (), f"Not made: it {self._needs(self.engine)}", refused=True)

    # --- how ---------------------------------------------------------------------------------
    def _values(self, state: object, value: float, start: int) -> tuple[np.ndarray, str]:
        n = self.target.at
        values = np.zeros(n, dtype=np.float32)
        if n - start <= WHOLE:
            groups = [(t, t + 1) for t in range(start, n)]
            values[start:] = value - self._without(state, groups)
            return values, ""
        lines = token_lines(self.trace.tokens, start, n)
        lost = value - self._without(state, lines)
        opened: list[tuple[int, int]] = []
        last = len(lines) - 1
        for i in sorted(range(len(lines)), key=lambda i: (i != last, -lost[i])):
            a, b = lines[i]
            values[a:b] = lost[i] / (b - a)
            if len(opened) < OPENED:
                opened += [(t, t + 1) for t in range(a, min(b, a + OPENED))]
        values[[a for a, _ in opened]] = value - self._without(state, opened)
        return values, (
            f"{len(lines)} lines were left out, then each of the {len(opened)} tokens of the lines "
            "whose loss costs most; other tokens show an even share of their line's."
        )

    def _without(self, state: object, groups: Sequence[tuple[int, int]]) -> np.ndarray:
        """f without each group of tokens, float32 (groups,)."""
        found: list[float] = []
        crop = self.engine.abilities.fork == "crop"
        for first in range(0, len(groups), TOGETHER):
            self.control.step(first, len(groups), "texts without a part")
            with self.engine.turn:
                texts = []
                for a, b in groups[first : first + TOGETHER]:
                    rest = self.ids[b:]
                    keep = a if rest else a - 1  # something has to be fed
                    keep = keep if crop else 0
                    stepper = self.engine.stepper
                    made = stepper.fork(state, keep) if keep > 0 else stepper.start()
                    texts.append((made, self.ids[max(keep, 0) : a] + rest))
                found += [float(self.target.of(row[None])[0]) for row in self._read(texts)]
        return np.asarray(found, dtype=np.float32)

    def _hidden(self, state: object) -> np.ndarray:
        """f where the last token cannot read each key, float32 (at,)."""
        n, stepper = self.target.at, self.engine.stepper
        if n < 2:
            raise AbilityError("the first token reads nothing but itself: nothing can be hidden")
        found: list[float] = []
        for first in range(0, n, TOGETHER):
            self.control.step(first, n, "hidden keys")
            with self.engine.turn:
                feeds = [
                    Feed(stepper.fork(state, n - 1), self.ids[n - 1 :], 0, 1, (Hidden(key),))
                    for key in range(first, min(first + TOGETHER, n))
                ]
                found += [float(self.target.of(r[None])[0]) for r in self._logits(feeds)]
        return np.asarray(found, dtype=np.float32)

    def _read(self, texts: Sequence[tuple[object, list[int]]]) -> list[torch.Tensor]:
        """The logits (V,) after each; a text of nothing at all is asked of its first token."""
        return self._logits([Feed(s, ids or self.ids[:1], scores=1) for s, ids in texts])

    def _logits(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        out = []
        for found in self.engine.stepper.extend_many(feeds):
            assert isinstance(found.scores, Full)
            out.append(torch.as_tensor(found.scores.logits)[-1].float())
        return out

    def _check(self, base: torch.Tensor) -> None:
        at, trace = self.target.at, self.trace
        if at >= len(trace) or not np.isfinite(recorded := float(trace.column("logprob")[at])):
            return
        found = float(base.log_softmax(-1)[int(trace.ids[at])])
        exact = self.engine.info.dtype in ("float32", "float64")
        allowed = tolerance(("float32" if exact else "int8",), self.engine.info.errors)
        if not abs(found - recorded) <= allowed:
            raise AbilityError(
                f"token {at} cannot be explained: run again, its logprob is {found:.4f}, recorded "
                f"was {recorded:.4f} (a difference of at most {allowed:.2g} nats is rounding)"
            )

    def _sentence(self, values: np.ndarray, value: float, a: str, b: str | None) -> str:
        what = f"{a!r}" if b is None else f"{a!r} rather than {b!r}"
        hides = self.name == KNOCKOUT
        if not len(values) or float(values.max()) <= 0:
            doing = "Hiding no single key" if hides else "Leaving out no single token"
            return f"{doing} makes {what} less likely."
        t = int(values.argmax())
        where = phrase(self.trace.tokens, t, self.trace.tokens[t].bytes)
        kind = "ln p" if b is None else "z - z"
        cut = "where the last token cannot read" if hides else "without"
        return (
            f"{what}: {cut} {where} its {kind} falls by {float(values[t]):.2f} nats, from "
            f"{value:.2f} to {value - float(values[t]):.2f}; no other single token costs more."
        )

    @staticmethod
    def _needs(engine: Engine) -> str:
        twin = twin_of(engine.info.path)
        rest = f"; `{twin}` is the same model with it" if twin else ""
        return f"needs the inside of the model, which {engine.info.backend} does not show{rest}"


def twin_of(path: str) -> str:
    """The name of a fetched model whose GGUF file this is and that has a folder as well, or ""."""
    from tokenscope.library.gettable import table

    for name, row in table().items():
        same = row.gguf().is_file() and row.gguf().resolve() == Path(path).resolve()
        if same and (row.safetensors() / "config.json").is_file():
            return name
    return ""
