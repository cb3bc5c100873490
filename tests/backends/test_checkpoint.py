"""Folders that are no model, or a hostile one: each a clear error that names file and cause."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.families import make
from tokenscope.backends.hf.checkpoint import inspect
from tokenscope.backends.hf.headers import MAX_HEADER
from tokenscope.backends.hf.load import load, resolve
from tokenscope.errors import InputError, ModelError


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", MAX_HEADER + 1) + b"{}")


def cut_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 500) + b'{"a"')


def lying_shape(folder: Path) -> None:
    head = json.dumps({"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 8)


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": 1}))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{" * 2000)


def encoder_decoder(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": True}))


def escaping_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"w": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"w": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def unknown_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "nonesuch", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('executed')\n")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (truncated, "truncated"), (huge_header, "header of"), (cut_header, "truncated inside"),
        (lying_shape, "wrong size"), (pickle_only, "pickled weights only"),
        (no_config, r"config\.json.*missing"), (broken_config, "no JSON"),
        (encoder_decoder, "encoder-decoder"), (escaping_index, "outside the folder"),
        (missing_shard, "missing"), (no_tokenizer, r"tokenizer\.json.*missing"),
        (unknown_architecture, "model_type: 'nonesuch' is an architecture"),
    ],
)  # fmt: skip
def test_damage_is_named(folder: Path, damage: Callable[[Path], None], cause: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=cause):
        load(folder)


def test_good_folder_passes(folder: Path) -> None:
    checkpoint = inspect(folder)
    assert checkpoint.values > 0
    assert checkpoint.dtypes == ("F32",)


def test_links_must_stay_inside_the_root(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(folder)
    with pytest.raises(ModelError, match="outside"):
        resolve(root / "link", root=root)
    inner = shutil.copytree(folder, root / "inner")
    (inner / "model.safetensors").unlink()
    (inner / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ModelError, match="outside"):
        load(inner, root=root)


def test_links_that_leave_the_folder_need_a_word(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        file = folder / name
        file.rename(tmp_path / name)
        file.symlink_to(tmp_path / name)
        with pytest.raises(ModelError, match=rf"{name}.*link that leaves.*--allow-links"):
            inspect(folder)
        assert inspect(folder, allow_links=True).values > 0
        file.unlink()
        (tmp_path / name).rename(file)
    (folder / "again.json").symlink_to("config.json")  # a link that stays inside is fine
    assert inspect(folder).values > 0


def test_a_snapshot_of_the_hub_cache_links_to_its_own_blobs(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for n, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / str(n))
        (snapshot / file.name).symlink_to(f"../../blobs/{n}")
    assert inspect(snapshot, root=tmp_path).values > 0
    assert inspect(snapshot).values > 0


def test_addresses_that_are_nothing(tmp_path: Path) -> None:
    for address in ("/no/such/folder", "./nope", "a b c", str(tmp_path / "x")):
        with pytest.raises(ModelError, match="does not exist"):
            resolve(address)
    with pytest.raises(ModelError, match="network is off"):
        resolve("some-owner/some-model")


def test_device_and_dtype_are_checked(folder: Path) -> None:
    with pytest.raises(InputError, match="device"):
        load(folder, device="nonesuch")
    with pytest.raises(InputError, match="dtype"):
        load(folder, dtype="int3")


@pytest.mark.parametrize(("method", "package"), [("gptq", "gptqmodel"), ("awq", "gptqmodel")])
def test_weights_that_need_a_package_name_it(folder: Path, method: str, package: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"{method} need the package {package}"):
        inspect(folder)
