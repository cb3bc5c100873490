"""Scoring a text of any length: in one piece where it fits, else in windows that overlap.

With W tokens to a window and an overlap of o, window k feeds the tokens ``k(W-o) .. k(W-o)+W`` of
the text (behind the start token, where the model wants one). A token is measured in the first
window that reaches it, so every token is scored once, and given

    the whole text before it         where that is at most W tokens,
    at least the o tokens before it  everywhere else (o .. W-1 of them).

The running perplexity goes on over all windows. ``origin.sampler`` tells ``window`` (W, with the
start token) and ``overlap``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tokenscope.backends.protocol import scorer
from tokenscope.control import Control
from tokenscope.decode.engine import Engine
from tokenscope.decode.step import Step
from tokenscope.errors import CapacityError, InputError
from tokenscope.metrics.series import RunningPerplexity
from tokenscope.runs.generate import begin
from tokenscope.runs.generate import score as score_whole
from tokenscope.runs.run import Run
from tokenscope.runs.settings import Settings
from tokenscope.trace.join import join
from tokenscope.trace.origin import Origin, Request
from tokenscope.trace.record import Finish, Trace
from tokenscope.trace.tokens import Tokens


def score(
    engine: Engine, text: str, *, language: str = "", alternatives: int = 10,
    overlap: int | None = None,
) -> Run | Windows:  # fmt: skip
    """Teacher forcing for a text of any length. Iterate it for Steps, or ask for the result.

    ``overlap``: tokens of context that every window gets, half a window by default. Raises
    InputError.
    """
    try:
        return score_whole(engine, text, language=language, alternatives=alternatives)
    except CapacityError as error:
        fits = error.fits or engine.info.context or 0
        given = engine.vocabulary.encode(text)
        size = fits - (0 in given.labels)
        if size < 2:
            raise
        overlap = size // 2 if overlap is None else overlap
        if not 0 < overlap < size:
            raise InputError("overlap", f"must lie in 1..{size - 1}") from None
        return Windows(engine, given, text, language, alternatives, size, overlap)


def windows(total: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """The ranges of tokens of the windows over ``total``; each begins ``overlap`` before the end
    of the last."""
    begin = 0
    while True:
        end = min(begin + size, total)
        yield begin, end
        if end == total:
            return
        begin = end - overlap


class Windows:
    """A score in windows, used like a Run: one Step per window, of its new tokens."""

    shared = None

    def __init__(
        self, engine: Engine, given: Tokens, text: str, language: str, alternatives: int,
        size: int, overlap: int,
    ) -> None:  # fmt: skip
        self.total = self.n_prompt = len(given)
        self.control = Control()
        self.finish: Finish = ""
        self.cost = ""
        if engine.abilities.scoring:
            self.cost = scorer(engine.backend).scoring_cost(self.total)
        self._engine, self._given, self._language = engine, given, language
        self._settings = Settings(max_new_tokens=0, alternatives=alternatives, attention="none")
        self._marks = int(0 in given.labels)  # the start token stands before every window
        self._request = Request(prompt=text, start_token=given.labels.get(0, ""))
        self._size, self._overlap = size, overlap
        self._perplexity = RunningPerplexity()
        self._done: list[Step] = []
        self._origin = Origin(form="score")
        self._steps = self._go()

    def __iter__(self) -> Iterator[Step]:
        return self._steps

    def cancel(self) -> None:
        """End soon, from any thread. The windows that are done stay in ``trace``."""
        self.control.cancel()

    @property
    def trace(self) -> Trace:
        """The windows so far as one trace."""
        made = join(
            None, self._done, n_prompt=self.total, origin=self._origin, language=self._language
        )
        return replace(made, finish=self.finish)

    def result(self) -> Trace:
        """Score to the end and give the trace."""
        for _ in self:
            pass
        return self.trace

    def _go(self) -> Iterator[Step]:
        body = self.total - self._marks
        mark, new = self._given.slice(0, self._marks), 0
        for start, end in windows(body, self._size, self._overlap):
            if self.control.cancelled:
                self.finish = "cancelled"
                return
            piece = self._given.slice(self._marks + start, self._marks + end)
            run = begin(
                self._engine, mark.joined(piece), "score", self._settings,
                language=self._language, request=self._request,
            )  # fmt: skip
            for inner in run:  # watched by the caller: a window may take a minute
                if self.control.cancelled:
                    run.cancel()
                self.control.progress(max(start + inner.end, new), self.total, "tokens")
            if run.finish == "cancelled":
                self.finish = "cancelled"
                return
            step = self._step(run.trace, start, new)
            new = step.end
            self._done.append(step)
            self.control.progress(new, self.total, "tokens")
            yield step
        self.finish = "scored"

    def _step(self, trace: Trace, start: int, new: int) -> Step:
        """What a window adds: its tokens from index ``new`` of the whole text on."""
        cut = new - start
        self._origin = replace(
            trace.origin,
            sampler={
                **trace.origin.sampler, "window": self._size + self._marks,
                "overlap": self._overlap,
            },
        )  # fmt: skip
        columns = {n: c.values[cut:] for n, c in trace.columns.items()}
        columns["perplexity"] = self._perplexity.add(columns["surprisal"])
        held = trace.alternatives
        return Step(
            new, trace.tokens.slice(cut, len(trace)), columns,
            None if held is None else held.slice(cut, len(trace)), None, True,
            (start + len(trace), self.total),
            {n: c.quality for n, c in trace.columns.items() if c.quality != "exact"},
        )  # fmt: skip
