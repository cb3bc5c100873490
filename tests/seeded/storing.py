"""Defects in the store: what survives a crash, and what rows say of a branch."""

from __future__ import annotations

from tests.seeded.defect import Defect

STORING = (
    Defect(
        "records-not-checked", "store/journal.py",
        """        if len(body) == size and zlib.crc32(body) == check:
            yield at, at + FRAME.size + size, body""",
        """        if len(body) == size:
            yield at, at + FRAME.size + size, body""",
        "a damaged record of a journal is believed",
        ("tests/store/test_safety.py::test_a_torn_journal_gives_its_whole_records",),
    ),
    Defect(
        "groups-one-too-long", "store/journal.py",
        "self._pending >= GROUP_TOKENS", "self._pending > GROUP_TOKENS",
        "a power cut may take more tokens than promised",
        ("tests/store/test_safety.py::test_groups_are_committed_by_count",),
    ),
    Defect(
        "mean-without-sign", "store/rows.py",
        '"own_surprisal": plain(-joint / logprobs.size)',
        '"own_surprisal": plain(joint / logprobs.size)',
        "the mean surprisal of a branch is negative",
        ("tests/store/test_sessions.py::test_a_tree_survives_a_restart",),
    ),
)  # fmt: skip
