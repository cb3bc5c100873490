"""A small double-entry ledger: accounts, postings, a trial balance and a reader of CSV lines."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Iterable, Iterator

CENT = Decimal("0.01")
SIDES = {"debit": 1, "credit": -1}


class LedgerError(ValueError):
    """Something does not add up."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line


@dataclass(frozen=True)
class Posting:
    account: str
    amount: Decimal
    memo: str = ""

    @property
    def side(self) -> str:
        return "debit" if self.amount >= 0 else "credit"

    def reversed(self) -> "Posting":
        return Posting(self.account, -self.amount, f"reversal of {self.memo!r}")


@dataclass
class Ledger:
    name: str
    entries: list[tuple[Posting, ...]] = field(default_factory=list)
    closed: bool = False

    def post(self, *postings: Posting) -> int:
        """Add one balanced entry and return its number."""
        if self.closed:
            raise LedgerError(f"{self.name} is closed")
        total = sum((p.amount for p in postings), Decimal(0))
        if abs(total) >= CENT:
            raise LedgerError(f"entry is off by {total}")
        self.entries.append(postings)
        return len(self.entries) - 1

    def balances(self) -> dict[str, Decimal]:
        totals: dict[str, Decimal] = defaultdict(Decimal)
        for entry in self.entries:
            for posting in entry:
                totals[posting.account] += posting.amount
        return {k: v.quantize(CENT) for k, v in sorted(totals.items()) if v}

    def history(self, account: str, *, after: int = 0) -> Iterator[Posting]:
        for number, entry in enumerate(self.entries):
            if number < after:
                continue
            yield from (p for p in entry if p.account == account)

    def undo(self, number: int) -> int:
        try:
            entry = self.entries[number]
        except IndexError:
            raise LedgerError(f"no entry {number}") from None
        else:
            return self.post(*[p.reversed() for p in entry])


def parse_amount(text: str, line: int) -> Decimal:
    cleaned = text.strip().replace(",", "").lstrip("$€£")
    try:
        return Decimal(cleaned).quantize(CENT)
    except InvalidOperation as error:
        raise LedgerError(f"not an amount: {text[:20]!r}", line) from error


def read(stream: Iterable[str], name: str = "default") -> Ledger:
    """Rows of ``entry,account,side,amount,memo``; rows of one entry stand together."""
    ledger, pending, current = Ledger(name), [], None
    reader = csv.DictReader(stream)
    for line, row in enumerate(reader, start=2):
        if current is not None and row["entry"] != current:
            ledger.post(*pending)
            pending = []
        current = row["entry"]
        match row["side"].lower():
            case "debit" | "credit" as side:
                amount = SIDES[side] * parse_amount(row["amount"], line)
            case other:
                raise LedgerError(f"unknown side {other!r}", line)
        pending.append(Posting(row["account"], amount, row.get("memo") or ""))
    if pending:
        ledger.post(*pending)
    return ledger


if __name__ == "__main__":
    SAMPLE = "entry,account,side,amount,memo\n1,cash,debit,10.00,sale\n1,income,credit,10.00,sale\n"
    book = read(io.StringIO(SAMPLE))
    width = max(map(len, book.balances()), default=0)
    for account, total in book.balances().items():
        print(f"{account:<{width}}  {total:>10}")  # café: ünïcode stays whole
