"""What the files say a model is, before it is loaded."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import gguf
import pytest

from tests.backends.gguf_file import write
from tokenscope.backends.gguf.header import read_header
from tokenscope.backends.hf.load import BUNDLED
from tokenscope.errors import ModelError
from tokenscope.library.entries import describe
from tokenscope.library.scan import below


def test_a_gguf_header_is_what_the_format_s_own_reader_says(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf")
    ours, theirs = read_header(file), gguf.GGUFReader(file)
    for key in ("llama.context_length", "llama.block_count", "general.file_type"):
        assert ours.values[key] == theirs.fields[key].contents()
    assert ours.lists["tokenizer.ggml.tokens"] == len(
        theirs.fields["tokenizer.ggml.tokens"].contents()
    )
    assert ours.parameters == sum(int(t.n_elements) for t in theirs.tensors)
    assert (ours.architecture, ours.kind) == ("llama", "float32")


def test_a_damaged_gguf_header_is_one_plain_error(tmp_path: Path) -> None:
    data = write(tmp_path / "a.gguf").read_bytes()
    end = data.index(b"output_norm.weight")
    data = data[: end + 200]  # the weights themselves are not looked at
    broken = tmp_path / "broken.gguf"
    step = max(1, end // 120)
    for cut in range(0, end, step):
        broken.write_bytes(data[:cut])
        with pytest.raises(ModelError):
            read_header(broken)
    for at in range(4, min(end, 2000), 7):  # a flipped byte is an error or another value, no more
        broken.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        with suppress(ModelError):
            read_header(broken)
    huge = data[:8] + b"\xff" * 16
    broken.write_bytes(huge)
    entry = describe("broken", "folder", broken)
    assert entry.reason is not None and "claims more than" in entry.reason


def test_folders_and_files_below_a_root(tmp_path: Path) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    shutil.copytree(BUNDLED, root / "team" / "good")
    shutil.copytree(BUNDLED, away)
    (root / "out").symlink_to(away)
    write(root / "team" / "one.gguf")
    deep = root / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "config.json").write_text("{}")
    (root / "notes").mkdir()
    assert [p.relative_to(root).as_posix() for p in below(root)] == ["team/one.gguf", "team/good"]
    good = describe("x", "folder", root / "team" / "good")
    assert (good.reason, good.licence, good.context, good.fits) == (None, "mit", 2048, True)
    assert good.able is not None and (good.able.attention, good.able.forks) == (True, "anywhere")
    assert good.need is not None and good.need > good.size * 2, "float32 is twice float16"
    (root / "team" / "good" / "README.md").unlink()
    (root / "team" / "good" / "LICENSE").write_text("  Apache License\n Version 2.0")
    assert describe("x", "folder", root / "team" / "good").licence == "apache-2.0"
