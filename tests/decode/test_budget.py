"""What is kept of earlier runs, and what is refused before anything is allocated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokenscope.backends.protocol import ModelInfo
from tokenscope.backends.scripted import ScriptedBackend, ScriptedState
from tokenscope.decode import limits
from tokenscope.decode.limits import record_bytes, room
from tokenscope.decode.prefixes import Prefixes
from tokenscope.errors import CapacityError, InputError


def states(*texts: str, nbytes: int = 100) -> list[ScriptedState]:
    return [ScriptedState(list(t.encode()), nbytes) for t in texts]


def ids(text: str) -> list[int]:
    return list(text.encode())


def kept(prefixes: Prefixes) -> list[str]:
    return [bytes(k.ids.astype("u1").tolist()).decode() for k in prefixes._kept]


def test_what_was_not_used_for_longest_goes_first() -> None:
    prefixes = Prefixes(ScriptedBackend(), budget=300)
    for state in states("aaa", "bbb", "ccc"):
        prefixes.put(state)
    assert prefixes.nbytes == 300
    assert prefixes.take(ids("aaax"), 4).ids == ids("aaa"), "used: now the youngest"
    prefixes.put(states("ddd")[0])
    assert kept(prefixes) == ["ccc", "aaa", "ddd"]
    prefixes.put(states("eee", nbytes=250)[0])
    assert kept(prefixes) == ["eee"]
    assert prefixes.nbytes == 250
    prefixes.put(states("fff", nbytes=301)[0])
    assert kept(prefixes) == [], "what is too large for the budget alone is not kept"


def test_a_longer_state_takes_the_place_of_its_own_beginning_only() -> None:
    prefixes = Prefixes(ScriptedBackend(), budget=1000)
    for state in states("ab", "abcd", "abx"):
        prefixes.put(state)
    assert kept(prefixes) == ["abcd", "abx"]
    copying = Prefixes(ScriptedBackend(fork="copy"), budget=1000)
    for state in states("ab", "abcd"):
        copying.put(state)
    assert kept(copying) == ["ab", "abcd"], "a memory that cannot go back is needed as it is"


def test_the_longest_common_start_is_found_up_to_the_limit() -> None:
    prefixes = Prefixes(ScriptedBackend())
    for state in states("abcdef", "abxy"):
        prefixes.put(state)
    assert prefixes.take(ids("abcdxx"), 6).ids == ids("abcd")
    assert prefixes.take(ids("abcdef"), 3).ids == ids("abc")
    assert prefixes.take(ids("abxyz"), 5).ids == ids("abxy")
    assert prefixes.take(ids("zzz"), 3).ids == []
    assert prefixes.take(ids("abcdef"), 6, key="edited").ids == [], "edits make another memory"
    whole = Prefixes(ScriptedBackend(fork="copy"))
    whole.put(states("abcdef")[0])
    assert whole.take(ids("abcdxx"), 6).ids == []
    assert whole.take(ids("abcdefg"), 7).ids == ids("abcdef")


def test_a_taken_state_can_grow_without_touching_the_kept_one() -> None:
    prefixes = Prefixes(ScriptedBackend())
    prefixes.put(states("abc")[0])
    mine = prefixes.take(ids("abcd"), 4)
    mine.ids.append(ord("z"))
    assert kept(prefixes) == ["abc"]
    prefixes.clear()
    assert (len(prefixes), prefixes.nbytes) == (0, 0)


@pytest.fixture
def info() -> ModelInfo:
    return replace(
        ScriptedBackend(context=100, layers=2, heads=4).info, state_bytes_per_token=1000,
        device="cpu",
    )  # fmt: skip


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(limits, "free_bytes", lambda device: count)


def test_room_ends_with_the_context(info: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1 << 40)
    assert room(info, 10, 20, "none") == 20
    assert room(info, 90, 20, "none") == 10
    assert room(info, 99, 20, "none") == 1
    assert room(info, 100, 0, "none") == 0, "a score may fill the context"
    for given, wanted, fits in [(100, 1, 99), (101, 0, 100), (101, 5, 99)]:
        with pytest.raises(CapacityError) as caught:
            room(info, given, wanted, "none")
        assert caught.value.fits == fits
    with pytest.raises(InputError, match="empty"):
        room(info, 0, 5, "none")


def test_room_ends_with_the_memory(info: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    info = replace(info, context=10_000)
    free(monkeypatch, int(3_000 * 1000 / limits.RESERVE) + 1)
    assert room(info, 1000, 1000, "none") == 1000, "2,000 tokens and half as much to grow: 3 MB"
    with pytest.raises(CapacityError, match="GB are free") as caught:
        room(info, 1000, 1001, "none")
    assert caught.value.fits == 2000
    # records cost too: a full one grows with the square
    with pytest.raises(CapacityError) as caught:
        room(info, 1000, 1000, "full")
    fits = caught.value.fits
    assert fits is not None and 1000 < fits < 2000
    room(info, 1000, fits - 1000, "full")
    with pytest.raises(CapacityError):
        room(info, 1000, fits - 999, "full")


def test_a_full_record_is_every_weight_in_two_bytes(info: ModelInfo) -> None:
    weights = sum(t for t in range(7, 12))  # token t has a row over t keys
    assert record_bytes(info, 7, 12, "full") == 2 * 4 * 2 * weights
    assert record_bytes(info, 7, 12, "none") == 0
    assert record_bytes(info, 12, 12, "top") == 0
    assert record_bytes(info, 7, 12, "top") == 5 * record_bytes(info, 7, 8, "top") > 0


def test_a_top_record_reaches_no_further_than_it_can_name(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 1 << 50)
    info = replace(info, context=1 << 20)
    with pytest.raises(CapacityError, match="65535") as caught:
        room(info, 60_000, 10_000, "top")
    assert caught.value.fits == 65_535
    assert room(info, 60_000, 10_000, "none") == 10_000
    assert room(info, 60_000, 5_535, "top") == 5_535
