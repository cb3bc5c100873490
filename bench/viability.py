"""How good is the viability oracle for Python? Measured on the standard library.

    python bench/viability.py --files 300            every token boundary of 300 real files
    python bench/viability.py --files 300 --json

Counts false rejects (a prefix of a file that compiles, called not viable; should be 0), the time a
question takes, and the share of broken mutants that are called not viable: a file with one token
deleted, doubled or replaced that CPython rejects. A mutant that something could still mend (an
unclosed bracket) is rightly called viable, so the share cannot be 1. ``late_tokens``: by how many
tokens the hand-made cases of ``tests/code/viability_cases.py`` are refused too late, in all;
``never``: how many are not refused at all.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import runpy
import sys
import sysconfig
import time
from pathlib import Path

from tokenscope.code.prefix_python import PythonPrefix, viable

PIECE = re.compile(rb" ?[A-Za-z_]{1,6}| ?\d{1,3}|\n[ \t]*|[ \t]+|[^\w\s]{1,2}|.", re.DOTALL)
WORDS = [b"if", b"else", b"return", b")", b"]", b"=", b":", b"for", b"x", b"1", b"'", b"def", b","]


def real_files(count: int, largest: int, seed: int) -> list[bytes]:
    """``count`` files of the standard library that compile, in a random order."""
    paths = [
        p
        for p in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
        if not {"test", "tests", "site-packages", "lib2to3"} & set(p.parts)
    ]
    random.Random(seed).shuffle(paths)
    found: list[bytes] = []
    for path in paths:
        data = path.read_bytes()
        try:
            data.decode()
            compile(data, path.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        if 200 < len(data) <= largest:
            found.append(data)
        if len(found) == count:
            break
    return found


def false_rejects(files: list[bytes]) -> tuple[int, int, float, list[str]]:
    """Prefixes asked about, rejected ones, seconds, and the ends of some rejected ones."""
    asked, rejected = 0, []
    begin = time.perf_counter()
    for done, data in enumerate(files, 1):
        prefix = PythonPrefix()
        for piece in PIECE.finditer(data):
            prefix.append(piece.group())
            asked += 1
            if prefix.viable() is not True:
                rejected.append(repr(data[: piece.end()][-60:]))
        if done % 20 == 0:
            print(f"{done}/{len(files)} files, {asked} prefixes", file=sys.stderr)
    return asked, len(rejected), time.perf_counter() - begin, rejected[:10]


def mutants(files: list[bytes], per_file: int, seed: int) -> tuple[int, int]:
    """Mutants that do not compile, and how many of them are called not viable."""
    rng = random.Random(seed)
    broken = flagged = 0
    for data in files:
        pieces = [m.group() for m in PIECE.finditer(data)]
        for _ in range(per_file):
            changed = list(pieces)
            at = rng.randrange(len(changed))
            how = rng.randrange(3)
            changed[at] = (b"", changed[at] * 2, rng.choice(WORDS))[how]
            text = b"".join(changed)
            try:
                compile(text, "mutant", "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                broken += 1
                flagged += viable(text + b"\n") is False
    return broken, flagged


def lateness() -> dict[str, int]:
    """How late the hand-made dead texts are refused."""
    path = Path(__file__).parents[1] / "tests" / "code" / "viability_cases.py"
    cases = runpy.run_path(str(path))["DEAD"]
    late, never = [], 0
    for case in cases:
        alive, rest = case.split("|>")
        text = alive + rest + "\nx = 1\ny = 2\n"
        ends = range(len(alive) + 1, len(text) + 1)
        first = next((end for end in ends if viable(text[:end]) is False), None)
        if first is None:
            never += 1
        else:
            late.append(len(re.findall(r"\w+|[^\w\s]|\n", text[len(alive) + 1 : first])))
    return {
        "dead_cases": len(cases), "late_cases": sum(n > 0 for n in late),
        "late_tokens": sum(late), "latest": max(late), "never": never,
    }  # fmt: skip


def main() -> None:
    """Print the figures; exit 1 on a false reject."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--largest", type=int, default=30_000, help="bytes of a file at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    files = real_files(options.files, options.largest, options.seed)
    asked, rejected, seconds, examples = false_rejects(files)
    broken, flagged = mutants(files, 5, options.seed)
    result = {
        "python": sys.version.split()[0], "files": len(files), "prefixes": asked,
        "false_rejects": rejected, "seconds": round(seconds, 1),
        "ms_per_prefix": round(1e3 * seconds / max(asked, 1), 3),
        "broken_mutants": broken, "flagged": flagged,
        "flagged_share": round(flagged / max(broken, 1), 3),
        **lateness(), "examples": examples,
    }  # fmt: skip
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:16} {value}")
    sys.exit(1 if rejected else 0)


if __name__ == "__main__":
    main()
