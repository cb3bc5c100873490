"""The models that a server offers: some loaded, under a budget of memory."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tokenscope.backends import loading
from tokenscope.control import Cancelled, Control
from tokenscope.decode.vectors import Vectors
from tokenscope.errors import BusyError, CapacityError, ModelNotLoaded, NotFound, TokenScopeError
from tokenscope.trace import Trace

if TYPE_CHECKING:
    from tokenscope.runs.model import Model

log = logging.getLogger(__name__)
State = Literal["loaded", "loading", "unloaded", "failed"]
WEIGHTS = ("*.safetensors", "*.gguf")


@dataclass
class Offer:
    """A model that may be loaded. ``size``: bytes of its weights on the disk, if known; ``taken``:
    bytes in memory, once it was loaded (a wider number type and packed copies count). ``dtype``,
    ``ceiling``: the number type and the most memory that were asked for. ``job``: the one that
    loads it."""

    id: str
    name: str
    address: str | None
    dtype: str | None = None
    ceiling: int | None = None
    size: int | None = None
    taken: int = 0
    state: State = "unloaded"
    error: str = ""
    model: Model | None = field(default=None, repr=False)
    digest: str = ""
    users: int = 0
    used: float = 0.0
    job: str = ""

    @property
    def form(self) -> dict[str, Any]:
        """How to load it, where that was said."""
        asked = {"dtype": self.dtype, "max_memory": self.ceiling}
        return {k: v for k, v in asked.items() if v is not None}

    @property
    def needs(self) -> int:
        """Bytes that it takes, as far as is known by now."""
        return self.taken or self.size or 0


class Models:
    """``load(address)`` makes a model, with ``dtype`` and ``max_memory`` where asked.
    ``budget``: bytes of weights that may be loaded at once; ``root``: the folder that its models
    come from, if there is one.

    Safe to use from several threads. The first offer is the one that is meant where none is named.
    """

    def __init__(
        self,
        load: Callable[..., Model],
        addresses: Iterable[str | None],
        budget: int | None = None,
        root: Path | None = None,
    ) -> None:
        self._load = load
        self._budget = budget
        self.root = root
        self.vectors = Vectors()
        self._offers: dict[str, Offer] = {}
        self._guard = threading.RLock()
        for address in addresses:
            self._offer(address)

    @staticmethod
    def of_one(model: Model) -> Models:
        """A server of one model that is loaded already, and stays."""

        def refuse(_: str | None, **__: Any) -> Model:
            raise NotFound("this server offers no other model")

        models = Models(refuse, [None])
        models._put(next(iter(models._offers.values())), model)
        return models

    def _offer(
        self, address: str | None, dtype: str | None = None, ceiling: int | None = None
    ) -> Offer:  # fmt: skip
        name = "bundled" if address is None else named(address)
        name += f" {dtype}" if dtype else ""
        name += f" in {ceiling / 1e6:.0f} MB" if ceiling else ""
        base = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"
        made = next(i for i in [base, *(f"{base}-{n}" for n in range(2, 1000))]
                    if i not in self._offers)  # fmt: skip
        self._offers[made] = Offer(made, name, address, dtype, ceiling, size_of(address))
        return self._offers[made]

    def also(self, address: str | None, dtype: str | None, ceiling: int | None) -> Offer:
        """A model in another form beside those that are offered, or the offer that is the same."""
        wanted = (None if address == "bundled" else address, dtype, ceiling)
        with self._guard:
            for offer in self._offers.values():
                if (offer.address, offer.dtype, offer.ceiling) == wanted:
                    return offer
            return self._offer(*wanted)

    def offer_more(self, addresses: Iterable[str]) -> None:
        """Models that came later; those that are offered already are left as they are."""
        with self._guard:
            known = {o.address for o in self._offers.values()}
            for address in addresses:
                if address not in known:
                    self._offer(address)

    def keep_vectors(self, folder: Path) -> None:
        """Keep the steering vectors of all models there."""
        self.vectors.folder = folder

    # --- asked --------------------------------------------------------------------------------
    def _look(self) -> None:
        """A model whose process has died counts as not loaded."""
        for offer in self._offers.values():
            if offer.model is not None and not getattr(offer.model.backend, "alive", True):
                offer.model, offer.state = None, "failed"
                offer.error = "its process ended in the middle of a request; load it again"

    def all(self) -> list[Offer]:
        """Every model offered."""
        with self._guard:
            self._look()
            return list(self._offers.values())

    def offer(self, name: str) -> Offer:
        """By its id. Raises NotFound."""
        with self._guard:
            found = self._offers.get(name)
        if found is None:
            raise NotFound("no such model")
        return found

    def get(self, name: str | None = None) -> Model:
        """The model with this id, else the first loaded. Raises NotFound, ModelNotLoaded."""
        with self._guard:
            self._look()
            if name is not None:
                offer = self.offer(name)
                if offer.model is None:
                    raise ModelNotLoaded(f"{offer.name} is not loaded; load it first", offer.id)
                return offer.model
            for offer in self._offers.values():
                if offer.model is not None:
                    return offer.model
            first = next(iter(self._offers.values()))
            raise ModelNotLoaded("no model is loaded; load one first", first.id)

    def maker(self, trace: Trace) -> Model:
        """The model that made a trace. Raises ModelNotLoaded when it is not loaded."""
        origin = trace.origin
        return self.known(origin.model_digest, origin.model, origin.dtype, "this branch")

    def known(self, made: str, name: str, dtype: str, what: str) -> Model:
        """The loaded model with this digest. Raises ModelNotLoaded, which says that ``what`` was
        made by it."""
        with self._guard:
            self._look()
            same = [
                o.model for o in self._offers.values()
                if o.model is not None and made in ("", o.digest)
            ]  # fmt: skip
            if same:  # in the same number type where there is one
                return next((m for m in same if m.info.dtype == dtype), same[0])
            known = [o for o in self._offers.values() if made == o.digest or name == o.name]
        if known:
            raise ModelNotLoaded(
                f"{what} was made by {name}, which is not loaded; load it first", known[0].id
            )
        raise ModelNotLoaded(f"{what} was made by {name}, which this server does not offer")

    @contextmanager
    def reader(self, trace: Trace) -> Iterator[Model | None]:
        """The model that made a trace, which stays loaded while the block runs; None where it is
        not loaded: what was recorded can be read without it."""
        try:
            model = self.maker(trace)
        except ModelNotLoaded:
            yield None
            return
        with self.lease(model):
            yield model

    @contextmanager
    def lease(self, model: Model) -> Iterator[Model]:
        """While the block runs the model stays loaded."""
        with self._guard:
            held = [o for o in self._offers.values() if o.model is model]
            if not held:
                raise ModelNotLoaded("the model was unloaded meanwhile; load it first")
            held[0].users += 1
            held[0].used = time.monotonic()
        try:
            yield model
        finally:
            with self._guard:
                held[0].users -= 1

    # --- changed ------------------------------------------------------------------------------
    def load(self, name: str, control: Control | None = None) -> Model:
        """Load it, and unload what was not used for longest where the budget asks for it.

        ``control`` hears how far it is, and can end it. Raises Cancelled, NotFound, BusyError while
        it is being loaded, CapacityError, and what loading raises.
        """
        with self._guard:
            self._look()
            offer = self.offer(name)
            if offer.model is not None:
                return offer.model
            if offer.state == "loading":
                raise BusyError(f"{offer.name} is being loaded", 2)
            self._refuse_too_large(offer)
            self._make_room(offer)
            offer.state, offer.error = "loading", ""
        try:
            with loading.watched(control):
                model = self._load(offer.address, **offer.form)
        except Cancelled:
            offer.state = "unloaded"
            raise
        except BaseException as error:
            own = isinstance(error, TokenScopeError)
            offer.error = str(error) if own else "it could not be loaded; the log says why"
            offer.state = "failed"
            raise
        self._put(offer, model)
        return model

    def unload(self, name: str) -> None:
        """Give its memory back. Raises NotFound, BusyError while something runs on it."""
        with self._guard:
            offer = self.offer(name)
            if offer.users:
                raise BusyError(f"{offer.name} is in use; stop its runs first", 2)
            model, offer.model = offer.model, None
            offer.state = "loading" if offer.state == "loading" else "unloaded"
        if model is not None:
            model.close()
            log.info("unloaded %s", offer.name)

    def _put(self, offer: Offer, model: Model) -> None:
        with self._guard:
            model.vectors = self.vectors
            offer.model, offer.digest = model, model.info.model_digest
            if not offer.form:
                offer.name = model.info.name or offer.name
            offer.taken = model.info.weight_bytes
            offer.state, offer.error, offer.used = "loaded", "", time.monotonic()
            try:  # it may take more than its files did
                self._make_room(offer)
            except BusyError:
                log.warning("the loaded models take more than the budget; all others are in use")
        log.info("loaded %s: %d MiB", offer.name, offer.needs >> 20)

    def _refuse_too_large(self, wanted: Offer) -> None:
        if self._budget is not None and (wanted.size or 0) > self._budget:
            raise CapacityError(
                f"{wanted.name} takes {(wanted.size or 0) >> 20} MiB; the budget for models is "
                f"{self._budget >> 20} MiB (--model-budget)"
            )

    def _make_room(self, wanted: Offer) -> None:
        """Unload what was not used for longest until the budget holds ``wanted`` as well; one that
        alone takes more than the budget in memory has it to itself."""
        if self._budget is None:
            return
        held = [
            o for o in self._offers.values() if o is not wanted and o.state in ("loaded", "loading")
        ]
        total = wanted.needs + sum(o.needs for o in held)
        for offer in sorted(held, key=lambda o: o.used):
            if total <= self._budget:
                return
            if offer.state == "loaded" and not offer.users:
                total -= offer.needs
                self.unload(offer.id)
                held = [o for o in held if o is not offer]
        if total > self._budget and held:
            raise BusyError(f"no room for {wanted.name}: the loaded models are in use", 5)


def named(address: str) -> str:
    """What an address is called before its model is loaded."""
    if address.lower().startswith(("http://", "https://")):
        host = urlsplit(address)
        return f"{host.hostname or 'server'}:{host.port or ''} {host.fragment}".strip()
    return Path(address).name or address


def size_of(address: str | None) -> int | None:
    """Bytes of the weights of a folder or file; None where that cannot be told."""
    from tokenscope.backends.hf.load import BUNDLED
    from tokenscope.library import fetched

    if address is None:
        path = BUNDLED
    elif fetched.takes(address):
        path = fetched.place(address)
    else:
        path = Path(address)
    if path.is_file():
        return path.stat().st_size
    found = [f.stat().st_size for kind in WEIGHTS for f in path.glob(kind)] if path.is_dir() else []
    return sum(found) if found else None


def below(root: Path) -> list[str]:
    """Folders with a config and weights, and GGUF files, at most two levels below a root."""
    from tokenscope.library import scan

    return [str(p) for p in scan.below(root) if p.is_file() or _whole(p)]


def _whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() and bool(size_of(str(folder)))
