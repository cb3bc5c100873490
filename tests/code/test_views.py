"""`trace.regions`, `trace.rollup`, attention between nodes, and files scored in windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokenscope.backends.scripted import ScriptedBackend, hashed
from tokenscope.code.align import align
from tokenscope.code.attend import node_matrix, shares
from tokenscope.code.parse import parse
from tokenscope.errors import CapacityError, InputError, UnknownName
from tokenscope.runs.model import Model
from tokenscope.runs.structure import Followers, viability, with_viability
from tokenscope.runs.structure_files import roll_up_files, source_files
from tokenscope.trace.record import trace_of

CODE = b"def f(a):\n    x = a\n    return x\n"


def traced(**options):
    pieces = [CODE[i : i + 3] for i in range(0, len(CODE), 3)]
    values = [float(i) for i in range(len(pieces))]
    return trace_of(list(range(len(pieces))), pieces, 4, entropy=values, **options)


def test_a_trace_has_regions_and_rollups():
    trace = traced()
    assert trace.regions.language == "python"
    assert trace.regions is trace.regions, "parsed once"
    frame = trace.rollup("entropy", by="statement")
    assert frame["kind"].iloc[0] == "function_definition"
    assert frame["prompt"].iloc[0] == 4
    assert trace.rollup("entropy", by="line", part="all")["count"].sum() >= len(trace)
    with pytest.raises(UnknownName):
        trace.rollup("nothing")


def test_regions_come_without_anything_else_imported():
    program = (
        "from tokenscope.trace.record import trace_of; "
        "t = trace_of([1, 2], [b'def f(x):', b' return'], 0, entropy=[0.5, 1.5]); "
        "assert t.regions.language == 'python', t.regions.language; "
        "import sys; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_trace_says_its_language_and_a_caller_may_overrule_it():
    trace = traced()
    assert trace.view("regions", language="text").kinds == ("file",)
    with pytest.raises(UnknownName):
        trace.view("regions", language="cobol")


def test_node_matrix_equals_the_sum_over_bytes():
    trace = traced()
    cells = align(trace.tokens, parse(CODE, "python"))
    rng = np.random.default_rng(0)
    rows = {t: rng.dirichlet(np.ones(t)).astype(np.float32) for t in range(1, len(trace))}
    made = node_matrix(cells, rows.__getitem__, range(1, len(trace)), "statement", drop_sink=False)
    # every byte of the query token and of the key token, one at a time
    inner = cells.regions.nearest("statement")
    byte_region = inner[np.repeat(cells.region, cells.weight)]
    nodes = [*made.region.tolist(), -1]
    owner = np.repeat(np.arange(len(trace)), np.diff(trace.tokens.offsets))
    size = np.diff(trace.tokens.offsets)
    want = np.zeros((len(nodes), len(nodes)))
    mass = np.zeros(len(nodes))
    for q in range(len(CODE)):
        t = int(owner[q])
        if t == 0:
            continue
        g = nodes.index(int(byte_region[q]))
        mass[g] += 1 / size[t]
        for k in range(len(CODE)):
            s = int(owner[k])
            if s < t:
                h = nodes.index(int(byte_region[k]))
                want[g, h] += rows[t][s] / size[t] / size[s]
    used = mass > 0
    assert made.values[used] == pytest.approx(want[used] / mass[used, None], abs=1e-6)
    assert np.nansum(made.values, axis=1)[used] == pytest.approx(1.0, abs=1e-5)


def test_sink_normalisation_and_limits():
    trace = traced()
    cells = align(trace.tokens, parse(CODE, "python"))
    row = lambda t: np.full(t, 1 / t, dtype=np.float32)
    kept = node_matrix(cells, row, range(4, len(trace)), "line")
    assert np.nanmax(np.nansum(kept.values, axis=1) + kept.sink) == pytest.approx(1.0, abs=1e-5)
    unit = node_matrix(cells, row, range(4, len(trace)), "line", normalise="row")
    assert np.nansum(unit.values, axis=1)[unit.queries > 0] == pytest.approx(1.0)
    dense = node_matrix(cells, row, range(4, len(trace)), "line", normalise="density")
    assert (dense.values[dense.queries > 0] <= kept.values[kept.queries > 0] + 1e-9).all()
    with pytest.raises(InputError):
        node_matrix(cells, row, range(1, 2), "line", normalise="most")
    part, labels, *_ = shares(cells, "function")
    assert part.sum(axis=1) == pytest.approx(1.0)
    assert labels == ("function_definition f",)
    many = b"x = 1\n" * 600
    wide = align(trace_of([0], [many], 0).tokens, parse(many, "python"))
    with pytest.raises(CapacityError, match="512"):
        shares(wide, "line")


def test_special_tokens_are_outside():
    trace = trace_of([0, 1, 2], [b"", b"x = 1", b"\n"], 0)
    cells = align(trace.tokens, parse(trace.tokens.data, "python"))
    part, labels, *_ = shares(cells, "statement")
    assert part[0].tolist() == [0.0] * len(labels) + [1.0]


def test_followers_follow_and_start_again():
    followers = Followers()
    trace = traced()
    found = followers.look("n", trace.cut(5))
    assert len(found.alignment.offsets) == 6
    whole = followers.look("n", trace)
    assert whole.alignment.regions.end[0] == len(CODE)
    other = trace_of([0], [b"y = 2\n"], 0)
    assert followers.look("n", other).alignment.regions.end[0] == 6


@pytest.fixture
def model():
    return Model(ScriptedBackend(hashed, context=60))


def test_viability_of_a_generated_trace(model):
    trace = model.generate("x = (", max_new_tokens=5, alternatives=6, language="python")
    judged = viability(trace)
    assert judged.first == trace.n_prompt
    assert judged.verdicts.shape == (5, 6)
    wider = with_viability(trace, judged)
    z = wider.column("viable_mass")
    assert np.isnan(z[: trace.n_prompt]).all()
    assert (z[trace.n_prompt :] <= 1 + 1e-6).all()
    assert viability(trace, budget_s=0.0).verdicts.shape[0] <= 1


def test_a_folder_is_rolled_up(model, tmp_path: Path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.js").write_text("let y = 2;\n")
    (tmp_path / "bad.py").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.zzz").write_text("no language")
    files = source_files(tmp_path)
    assert [f.name for f in files] == ["a.py", "bad.py", "b.js"]
    made = roll_up_files(model, files, tmp_path, by="statement", column="entropy")
    assert set(made.frame["path"]) == {"a.py", "sub/b.js"}
    assert made.skipped == [{"path": "bad.py", "reason": "FILE: is not UTF-8 (byte 0)"}]
    with pytest.raises(InputError, match="UTF-8"):
        roll_up_files(model, [tmp_path / "bad.py"], tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no file"):
        source_files(empty)
