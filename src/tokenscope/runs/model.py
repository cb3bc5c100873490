"""The Python face: a loaded model with everything that can be asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenscope.backends import loading
from tokenscope.backends.open import Options, StartToken, open_backend
from tokenscope.control import Control
from tokenscope.decode.engine import AttentionForm, Engine, Speculate
from tokenscope.decode.rounding import column_errors, error_note
from tokenscope.runs import generate as runs
from tokenscope.runs.generate import Settings
from tokenscope.runs.windows import score
from tokenscope.trace.drawn import Drawn
from tokenscope.trace.edits import Edit
from tokenscope.trace.record import Trace

if TYPE_CHECKING:
    from tokenscope.decode.vectors import SteeringVector
    from tokenscope.evidence.learnt import Learnt
    from tokenscope.explain.repeats import Repeats
    from tokenscope.explain.tuned_lens import TunedLens
    from tokenscope.runs.arms import Ledger
    from tokenscope.runs.compare import Compared
    from tokenscope.runs.damage import Damage
    from tokenscope.runs.experts import Experts
    from tokenscope.runs.explain import Explanation
    from tokenscope.runs.explored import Explored
    from tokenscope.runs.forked import Forking
    from tokenscope.runs.invented import Invented
    from tokenscope.runs.lens import Lenses
    from tokenscope.runs.likelihood import Likelihood
    from tokenscope.runs.many import Branch, Request
    from tokenscope.runs.patch import Patched, Traced
    from tokenscope.runs.replace import Replaced
    from tokenscope.runs.replay import Replay
    from tokenscope.runs.replay_audit import AuditReplay
    from tokenscope.runs.risk import RiskOf
    from tokenscope.runs.widget import Explorer
    from tokenscope.trace.findings import Finding


class Model(Engine, Drawn):
    """A loaded model. ``ts.load()`` makes one; ``info`` and ``abilities`` tell what it is."""

    pictures = ("model",)

    @property
    def path(self) -> str:
        """The folder it was loaded from; transformers can load it too."""
        return self.info.path

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        seed: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: Sequence[str] = (),
        alternatives: int = 10,
        attention: AttentionForm = "top",
        language: str = "",
        edits: Sequence[Edit] = (),
        speculate: Speculate = "auto",
    ) -> Trace:
        """Decode a continuation of ``prompt``. Raises InputError, CapacityError."""
        settings = Settings(
            max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed,
            tuple(stop), alternatives, attention, tuple(edits), speculate,
        )  # fmt: skip
        return runs.generate(self, prompt=prompt, language=language, settings=settings).result()

    def generate_many(self, requests: Iterable[Request], **settings: Any) -> list[Trace]:
        """One trace per prompt (or mapping, see ``runs.many``), decoded together: same ids."""
        from tokenscope.runs.many import generate_many

        return generate_many(self, requests, Settings(**settings))

    def fork_many(
        self, branches: Iterable[Branch | tuple[Trace, int, Any]], **settings: Any
    ) -> list[Trace]:
        """One branch per (trace, at, token), decoded together: the same ids as ``fork`` of each.

        Settings as in ``generate``; a ``runs.many.Branch`` may hold some of its own.
        """
        from tokenscope.runs.many import fork_many

        return fork_many(self, branches, Settings(**settings))

    def replay(self, trace: Trace) -> Replay:
        """Run a trace again and compare; see ``tokenscope.runs.replay``. Raises MissingError."""
        from tokenscope.runs.replay import replay

        return replay(self, trace)

    def replay_audit(self, folder: str | Path, every: int = 1) -> AuditReplay:
        """Make an audit again from its journal and compare, every ``every``-th case; see
        ``tokenscope.runs.replay_audit``. Raises InputError, MissingError."""
        from tokenscope.runs.replay_audit import replay_audit

        return replay_audit(self, Path(folder), every)

    def likelihood(self, trace: Trace, learnt: Learnt | None = None) -> Likelihood:
        """How likely a human would change each line, as a column with its quality; see
        ``tokenscope.runs.likelihood``. Raises AbilityError where nothing was learnt."""
        from tokenscope.runs.likelihood import likelihood

        return likelihood(self, trace, learnt)

    def invented(self, trace: Trace, **options: Any) -> list[Invented]:
        """The probability mass of names that do not exist, at every import and attribute of a
        Python trace; see ``tokenscope.runs.invented``. Raises AbilityError."""
        from tokenscope.runs.invented import invented

        return invented(self, trace, **options)

    def infill(self, prefix: str, suffix: str, *, language: str = "", **settings: Any) -> Trace:
        """Decode what belongs between. Raises AbilityError without infill tokens."""
        return runs.generate(
            self, prompt=prefix, suffix=suffix, language=language, settings=Settings(**settings)
        ).result()

    def chat(self, messages: Sequence[Mapping[str, str]], **settings: Any) -> Trace:
        """Decode the answer to a chat. Raises AbilityError without a chat template."""
        return runs.generate(self, messages=messages, settings=Settings(**settings)).result()

    def fork(
        self, trace: Trace, at: int, token: str | int | Sequence[int], **settings: Any
    ) -> Trace:
        """A branch of ``trace`` that differs at token ``at``; settings as in ``generate``.

        Alternatives and attention are recorded as in ``trace`` unless asked otherwise.
        """
        if trace.alternatives is not None:
            settings.setdefault("alternatives", trace.alternatives.k)
        if trace.attention is not None:
            settings.setdefault("attention", trace.attention.form)
        return runs.fork(self, trace, at, token, Settings(**settings)).result()

    def score(self, text: str, *, language: str = "", alternatives: int = 10) -> Trace:
        """Every column for a text that someone else wrote (teacher forcing); a text that does not
        fit the context is scored in windows, see ``tokenscope.runs.windows``."""
        return score(self, text, language=language, alternatives=alternatives).result()

    def explain(self, trace: Trace, at: int, **options: Any) -> Explanation:
        """Why token ``at`` rather than another; see ``tokenscope.runs.explain.explain``."""
        from tokenscope.runs.explain import explain

        return explain(self, trace, at, **options)

    def explore(
        self, given: str | Trace, at: int | None = None, **options: Any
    ) -> Explored:  # fmt: skip
        """What else would be written from token ``at`` on; see ``tokenscope.runs.explore``."""
        from tokenscope.runs.explore import explore

        return explore(self, given, at, **options)

    def risk(self, trace: Trace, finding: Finding | str, **options: Any) -> RiskOf:
        """The risk mass of a finding of ``trace``; see ``tokenscope.runs.risk.risk``."""
        from tokenscope.runs.risk import risk

        return risk(self, trace, finding, **options)

    def forking(self, trace: Trace, **options: Any) -> Forking:
        """The tokens whose choice changes what comes of the text; see ``runs.forking``."""
        from tokenscope.runs.forking import forking

        return forking(self, trace, **options)

    def compare(self, a: Trace, b: Trace, other: Engine | None = None) -> Compared:
        """Two traces side by side, with exact distances between their distributions; ``other``:
        the model that made ``b``, where it is another; see ``tokenscope.runs.compare``."""
        from tokenscope.runs.compare import compare

        return compare(a, b, (self, other if other is not None else self))

    def patch_map(self, clean: str | Trace, corrupt: str | Trace, **options: Any) -> Patched:
        """Where the difference of two prompts is carried; see ``tokenscope.runs.patch``."""
        from tokenscope.runs.patch import patch_map

        return patch_map(self, clean, corrupt, **options)

    def causal_trace(
        self, prompt: str | Trace, subject: str | Sequence[int], **options: Any
    ) -> Traced:
        """What restores a blurred ``subject``; see ``tokenscope.runs.patch.causal_trace``."""
        from tokenscope.runs.patch import causal_trace

        return causal_trace(self, prompt, subject, **options)

    def ablate_map(self, prompt: str | Trace, **options: Any) -> Replaced:
        """Every head and MLP replaced, one at a time; see ``tokenscope.runs.replace``."""
        from tokenscope.runs.replace import ablate_map

        return ablate_map(self, prompt, **options)

    def path_effects(self, prompt: str | Trace, **options: Any) -> Replaced:
        """What heads tell one another directly; see ``tokenscope.runs.replace.path_effects``."""
        from tokenscope.runs.replace import path_effects

        return path_effects(self, prompt, **options)

    def lens(self, text: str | Trace, **options: Any) -> Lenses:
        """The lens at every layer and position; see ``tokenscope.runs.lens.lenses``."""
        from tokenscope.runs.lens import lenses

        return lenses(self, text, **options)

    def fit_lens(self, text: str | Sequence[str], **options: Any) -> TunedLens:
        """Fit and keep a tuned lens; see ``tokenscope.runs.lens.fit_lens``."""
        from tokenscope.runs.lens import fit_lens

        return fit_lens(self, text, **options)

    def repeated_heads(self, **options: Any) -> Repeats:
        """Induction, previous- and duplicate-token scores; see ``tokenscope.runs.heads``."""
        from tokenscope.runs.heads import repeated

        return repeated(self, **options)

    def damage(self, edits: Sequence[Edit], text: str, **options: Any) -> Damage:
        """What edits do on another text; see ``tokenscope.runs.damage``."""
        from tokenscope.runs.damage import damage

        return damage(self, edits, text, **options)

    def ledger(
        self, prompts: Sequence[str], arms: Mapping[str, Sequence[Edit]], **options: Any
    ) -> Ledger:
        """Arms of edits over prompts; see ``tokenscope.runs.ledger``."""
        from tokenscope.runs.ledger import ledger

        return ledger(self, prompts, arms, **options)

    def explorer(self, trace: Trace, **options: Any) -> Explorer:
        """A widget for notebooks: hover, alternatives, click to branch; see ``runs.widget``.
        Raises MissingError without the extra ``notebook``."""
        from tokenscope.runs.widget import Explorer

        return Explorer(self, trace, **options)

    def steering_vector(
        self, positive: Sequence[str], negative: Sequence[str], layer: int, **options: Any
    ) -> SteeringVector:
        """The difference of means at a layer; see ``tokenscope.runs.steering``."""
        from tokenscope.runs.steering import steering_vector

        return steering_vector(self, positive, negative, layer, **options)

    def experts(self, trace: Trace) -> Experts:
        """Which experts each step asked (mixtures); see ``tokenscope.runs.experts``."""
        from tokenscope.runs.experts import experts

        return experts(self, trace)

    def close(self) -> None:
        """Give the model's memory back."""
        self.prefixes.clear()
        self.backend.close()


def load(
    address: str | Path | None = None,
    *,
    dtype: str | None = None,
    device: str | None = None,
    allow_network: bool = False,
    root: str | Path | None = None,
    start_token: StartToken = "auto",
    allow_links: bool = False,
    allow_servers: Sequence[str] = (),
    kept_bytes: int | None = None,
    max_memory: int | None = None,
    control: Control | None = None,
) -> Model:
    """Load a model: the bundled one, a folder in Hugging Face format, a GGUF file, a hub id, or the
    address of a model server.

    The network is not used unless ``allow_network``. ``start_token``: whether plain prompts begin
    with one (``auto``: as the model's own tokenizer does). ``allow_links``: the folder's files may
    be links that leave it. ``allow_servers``: addresses of servers on other machines that prompts
    may be sent to. ``kept_bytes``: how much memory states of earlier prompts and branches may
    take, so that what starts with them starts at once (default 1 GiB). ``max_memory``: bytes that
    the process may take; a model that does not fit is read from the disk at every pass.
    ``control`` hears how far it is, and can end it between two tensors. Raises Cancelled,
    ModelError, InputError, CapacityError, RemoteError.
    """
    folder = Path(root) if root is not None else None
    options = Options(
        dtype, device, allow_network, folder, start_token, allow_links, tuple(allow_servers),
        max_memory,
    )  # fmt: skip
    with loading.watched(control):
        backend = open_backend(address, options)
    errors = column_errors(backend)
    notes = (*backend.info.notes, *error_note(errors))
    backend.info = replace(backend.info, errors=errors, notes=notes)
    return Model(backend, kept_bytes)
