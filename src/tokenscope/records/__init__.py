"""What was done, in a log that cannot be bent without it showing.

``log`` appends, ``verify`` checks, ``keys`` sign; ``content`` says what of a run is recorded.
"""

from tokenscope.records.content import FOLDER, digests, traced
from tokenscope.records.keys import Keys
from tokenscope.records.log import Head, RecordLog, somebody
from tokenscope.records.verify import Problem, Verified, verify

__all__ = [
    "FOLDER", "Head", "Keys", "Problem", "RecordLog", "Verified", "digests", "somebody", "traced",
    "verify",
]  # fmt: skip
