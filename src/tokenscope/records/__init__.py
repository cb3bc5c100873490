"""What was done, in a log that cannot be bent without it showing.

``log`` appends, ``verify`` checks, ``keys`` sign; ``content`` says what of a run is recorded.
"""

from tokenscope.records.content import traced
from tokenscope.records.keys import Keys
from tokenscope.records.log import Head, RecordLog
from tokenscope.records.verify import Problem, Verified, verify

__all__ = ["Head", "Keys", "Problem", "RecordLog", "Verified", "traced", "verify"]
