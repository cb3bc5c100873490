"""A client that people use, as it is: the command line tool `llm`, two of them at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server.test_recorder import KEY, SAYS, Talking, branches
from tokenscope.backends.scripted import saying
from tokenscope.runs.model import Model
from tokenscope.server.models import Models
from tokenscope.server.recorder.state import Recorder

if TYPE_CHECKING:
    from conftest import Served


def test_two_assistants_at_once(serve: Callable[..., Served], tmp_path: Path) -> None:
    start = "<system>be brief\n<user>write f\n"
    served = serve(
        models=Models.of_one(Model(Talking(saying(start + SAYS)))), recorder=KEY,
        house={"recorder": Recorder()},
    )  # fmt: skip
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
        (home / "extra-openai-models.yaml").write_text(
            "- model_id: scope\n  model_name: bundled\n  api_key_name: scope\n"
            f"  api_base: {served.address}/v1\n"
        )
        (home / "keys.json").write_text(json.dumps({"scope": KEY}))
    command = [str(Path(sys.executable).parent / "llm"), "-m", "scope", "-s", "be brief",
               "-o", "temperature", "0", "write f"]  # fmt: skip
    both = [
        subprocess.Popen(
            command, env={**os.environ, "LLM_USER_PATH": str(home)}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for home in homes
    ]  # fmt: skip
    for process in both:
        said, wrong = process.communicate(timeout=60)
        assert process.returncode == 0, wrong
        assert said.strip() == SAYS.strip()
    assert served.idle()
    made = branches(served)
    assert len(made) == 2 and {b["finish"] for b in made} == {"eos"}
