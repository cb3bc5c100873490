"""Forty defects, one at a time: does the suite catch each?

    python -m tests.seeded                 all of them: caught or survived, with the time
    python -m tests.seeded --json --jobs 2
    python -m tests.seeded --only rank     those whose name holds a word

Each defect is a small replacement in one source file, a mistake that someone could make. It is
applied to a *copy* of the sources; the tests named beside it must fail there, and pass without it.
"""

from __future__ import annotations

from tests.seeded.decoding import DECODING
from tests.seeded.defect import Defect
from tests.seeded.numbers import NUMBERS
from tests.seeded.reasons import REASONS
from tests.seeded.storing import STORING
from tests.seeded.structure import STRUCTURE

DEFECTS: tuple[Defect, ...] = (*NUMBERS, *DECODING, *STRUCTURE, *REASONS, *STORING)

__all__ = ["DEFECTS", "Defect"]
