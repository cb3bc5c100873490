"""The models at hand as a server shows them: its library, what it was given by name, servers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tokenscope.errors import NotFound
from tokenscope.library.entries import Entry, describe
from tokenscope.library.scan import library
from tokenscope.server.library_wire import AbleInfo, LibraryEntry
from tokenscope.server.models import Models, Offer


def shown(models: Models) -> list[LibraryEntry]:
    """Every entry, with the first of its offers, or the one that is loaded."""
    offers: dict[str, Offer] = {}
    for offer in models.all():
        held = offers.setdefault(offer.address or "bundled", offer)
        if held.model is None and offer.model is not None:
            offers[offer.address or "bundled"] = offer
    listed = [_shown(e, offers.get(e.address)) for e in _entries(models)]
    return [*listed, *(_server(a, o) for a, o in offers.items() if is_server(a))]


def known_here(models: Models, address: str) -> None:
    """Raises NotFound for an address that is neither offered nor in the library: a page cannot
    make the server look at any file."""
    offered = any((o.address or "bundled") == address for o in models.all())
    if not offered and all(e.address != address for e in _entries(models)):
        raise NotFound("no such model at hand")


def _entries(models: Models) -> list[Entry]:
    """The library, and folders and files that the server was given by name."""
    root = models.root
    listed = library(root, cache=root is None)
    known = {e.address for e in listed}
    given = [
        describe(o.address, "folder", Path(o.address).expanduser())
        for o in models.all()
        if o.address is not None and o.address not in known and not is_server(o.address)
        and Path(o.address).expanduser().exists()
    ]  # fmt: skip
    return [*listed, *{e.address: e for e in given}.values()]


def is_server(address: str) -> bool:
    """Whether it names a server rather than files."""
    return address.lower().startswith(("http://", "https://"))


def _server(address: str, offer: Offer) -> LibraryEntry:
    """A server: it tells of itself once it is connected."""
    able, info = None, None
    if offer.model is not None:
        info, can = offer.model.info, offer.model.abilities
        able = AbleInfo(
            columns=True, attention=can.attention, forks="anywhere" if can.fork == "crop" else
            "kept", internals=can.internals, chat=can.chat,
        )  # fmt: skip
    return LibraryEntry(
        address=address, name=offer.name, kind="server", form="server", offer=offer.id, get=None,
        architecture=info.architecture if info else "",
        parameters=info.parameters if info else None, bytes=0,
        context=info.context if info else None, number=info.dtype if info else "",
        licence="", digest=offer.digest or None, able=able, way="", need=None, fits=None,
        why="its memory is not this machine's", reason=offer.error or None,
    )  # fmt: skip


def _shown(entry: Entry, held: Offer | None) -> LibraryEntry:
    fields = {k: v for k, v in asdict(entry).items() if k not in ("path", "size", "able", "digest")}
    return LibraryEntry(
        **fields, bytes=entry.size, offer=held.id if held is not None else None,
        get=entry.address if entry.kind == "to fetch" else None,
        digest=(held.digest if held is not None else "") or entry.digest or None,
        able=None if entry.able is None else AbleInfo(**asdict(entry.able)),
    )  # fmt: skip
