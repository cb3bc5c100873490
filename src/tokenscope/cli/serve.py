"""``tokenscope serve``: the page and its server."""

from __future__ import annotations

import logging
import os
import signal
import socket
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenscope.cli.options import DataOption, JsonOption, Wanted, opens_a_model
from tokenscope.cli.output import document, say
from tokenscope.errors import InputError

if TYPE_CHECKING:
    from tokenscope.runs.model import Model
    from tokenscope.server.app import Served

GRACE = 10  # seconds that open connections have to end when the server stops


@opens_a_model
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models to offer: folders, files or hub ids; the first is loaded."),
    ] = None,
    *,
    wanted: Wanted,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8321,
    data: DataOption = None,
    model_root: Annotated[
        Path | None, typer.Option(help="Offer the models in this folder, and none outside it.")
    ] = None,
    model_budget: Annotated[
        float | None, typer.Option(help="GiB of weights loaded at once. Default: half the memory.")
    ] = None,
    kept_states: Annotated[
        float,
        typer.Option(min=0, help="GiB of memory for states of earlier prompts, of each model."),
    ] = 1.0,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name that browsers may ask for (repeat).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy before this server speaks TLS.")
    ] = False,
    most_runs: Annotated[
        int, typer.Option(min=1, max=256, help="Runs at once; one more is told to wait.")
    ] = 8,
    unattended: Annotated[
        float, typer.Option(min=0, help="Minutes that a run goes on when no page watches it.")
    ] = 10.0,
    signing_key: Annotated[
        Path | None, typer.Option(help="The key that signs the records. Default: beside them.")
    ] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Make a new key: signs every browser out.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    recorder: Annotated[
        bool, typer.Option("--recorder", help="Answer /v1 like OpenAI's API, and record it.")
    ] = False,
    recorder_rate: Annotated[
        int, typer.Option(min=1, help="Requests a minute that the recorder takes.")
    ] = 600,
    recorder_redact: Annotated[
        list[str] | None,
        typer.Option(help="What no record may hold: a pattern, secrets, or emails (repeat)."),
    ] = None,
    recorder_edits: Annotated[
        Path | None, typer.Option(help="A TOML file of edits in force for all its completions.")
    ] = None,
    recorder_keep: Annotated[
        float, typer.Option(min=0, help="Days that the recorder's sessions are kept. 0: for ever.")
    ] = 0.0,
    as_json: JsonOption = False,
) -> int:
    """Serve the page. Prints its address, which carries the key; Ctrl-C stops it."""
    from tokenscope.runs.edits import read_edits
    from tokenscope.server.access import Access, check_bind, stored_token
    from tokenscope.server.app import open_house
    from tokenscope.server.heap import few_arenas
    from tokenscope.server.models import Models
    from tokenscope.server.recorder.redact import patterns_of
    from tokenscope.server.recorder.state import Recorder, RecorderLimits
    from tokenscope.store import Store, default_folder

    few_arenas()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert", "goes together with --tls-key")
    hidden = patterns_of(recorder_redact)
    edits = read_edits(recorder_edits) if recorder_edits is not None else ()
    names = [n.lower() for n in allow_host or []]
    check_bind(host, tls_cert is not None, behind_proxy, names)
    listening = listen(host, port)
    store = Store(data if data is not None else default_folder())
    try:
        token = stored_token(store.path, new_token)
        own = stored_token(store.path, new_token, "recorder-key") if recorder else None
        https = tls_cert is not None or behind_proxy
        access = Access(token, frozenset(names), https, own)
        say("loading the model ...")

        def load(
            address: str | None, dtype: str | None = None, max_memory: int | None = None
        ) -> Model:
            kept = int(kept_states * 2**30)
            asked = replace(wanted, model=address, kept_bytes=kept)
            if dtype is not None or max_memory is not None:  # in place of those of the server
                size = None if max_memory is None else f"{max_memory / 1e6:.6f}MB"
                asked = replace(asked, dtype=dtype, max_memory=size)
            return asked.load(model_root)

        named = addresses(wanted.model, models, model_root)
        offered = Models(load, named, budget(model_budget), model_root)
        offered.load(offered.all()[0].id)
        limits = RecorderLimits(rate=recorder_rate)
        served = open_house(
            offered, store, access, most_runs, unattended=60 * unattended,
            recorder=Recorder(limits, max(1, most_runs - 2), hidden, recorder_keep, edits)
            if recorder else None,
            key=signing_key,
        )  # fmt: skip
        if served.house.recorder is not None:
            served.house.recorder.forget(store)
        url = address(host, listening.getsockname()[1], names, access.https, behind_proxy)
        key = f"{url}/?token={token}"
        announce(served, key, url, listening.getsockname()[1], as_json, own)
        if open_page:
            webbrowser.open(key)
        run(served, listening, tls_cert, tls_key)
    finally:
        store.close()
        listening.close()
    say("stopped")
    return 0


def addresses(model: str | None, more: list[str] | None, root: Path | None) -> list[str | None]:
    """What is offered, each once: what was named, the bundled model, what was fetched, what lies
    under the root or, without one, in the hub's cache."""
    from tokenscope.library.scan import at_hand
    from tokenscope.server.models import below

    named: list[str | None] = [*([model] if model is not None else []), *(more or [])]
    found = [*at_hand(cache=root is None), *(below(root) if root is not None else [])]
    known = {str(Path(a).resolve()) for a in named if a is not None}
    return [*named, None, *(f for f in found if str(Path(f).resolve()) not in known)]


def budget(gibibytes: float | None) -> int:
    """Bytes of weights that may be loaded at once."""
    import psutil

    if gibibytes is not None:
        return int(gibibytes * 2**30)
    return int(psutil.virtual_memory().total) // 2


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InputError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("--port", f"cannot listen on {host} port {port}: {reason}") from error


def address(host: str, port: int, names: list[str], https: bool, behind_proxy: bool) -> str:
    """What a browser types to get here, without the key."""
    name = names[0] if names else f"[{host}]" if ":" in host else host
    end = "" if behind_proxy and names else f":{port}"
    return f"{'https' if https else 'http'}://{name}{end}"


def announce(
    served: Served, key: str, url: str, port: int, as_json: bool, recorder: str | None = None
) -> None:
    """Say where the page is; the only time the keys are printed."""
    info = served.house.model.info
    if as_json:
        told = None if recorder is None else {"url": f"{url}/v1", "key": recorder}
        document({"url": key, "address": url, "port": port, "pid": os.getpid(), "recorder": told,
                  "model": info.name, "data": str(served.house.store.path)})  # fmt: skip
        return
    size = f"{info.parameters / 1e6:.1f} M parameters" if info.parameters else "size not told"
    say(f"{info.name}: {size}, {info.dtype}, {info.device}")
    say(f"sessions are kept in {served.house.store.path}")
    if served.house.store.kept:
        say(f"brought back {served.house.store.kept} interrupted branch(es)")
    if recorder is not None:
        say(f"recorder: {url}/v1 with the key {recorder}")
    print(key, flush=True)


def run(served: Served, listening: socket.socket, cert: Path | None, key: Path | None) -> None:
    """Serve until a signal comes; then stop the runs, keep what they wrote, and return."""
    import uvicorn

    from tokenscope.server.connection import Connection

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: object) -> None:
            served.house.jobs.stop()  # streams end, so that connections can close
            super().handle_exit(sig, frame)  # type: ignore[arg-type]

    # uvicorn raises the signals again when it is done; here that shall not kill us mid-way
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: None)
    config = uvicorn.Config(
        served.app, log_config=None, access_log=False, server_header=False, ws="none",
        lifespan="on", proxy_headers=False, timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=30, http=Connection, ssl_certfile=cert, ssl_keyfile=key,
    )  # fmt: skip
    Server(config).run(sockets=[listening])
