"""Secrets in the text: known shapes of keys, and long random strings given to telling names.

Shapes are those that the issuers publish. A string given to a name like ``password`` counts when
it is no placeholder and holds enough entropy for its length (Shannon, bits a character). What is
found may be invented by the model, or live: the finding cannot tell, and never repeats it.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from tokenscope.evidence.check import CHECKS, Code, Found, Options
from tokenscope.trace.findings import Finding, Grade

_SHAPES: tuple[tuple[str, str, Grade, bytes], ...] = (
    ("private-key", "the head of a private key", "high",
     rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    ("aws-access-key", "the shape of an AWS access key id", "high",
     rb"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    ("github-token", "the shape of a GitHub token", "high",
     rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b"),
    ("gitlab-token", "the shape of a GitLab token", "high", rb"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("slack-token", "the shape of a Slack token", "high", rb"\bxox[abposr]-[A-Za-z0-9-]{10,}"),
    ("stripe-key", "the shape of a live Stripe key", "high", rb"\b[rs]k_live_[A-Za-z0-9]{16,}\b"),
    ("google-key", "the shape of a Google API key", "high", rb"\bAIza[A-Za-z0-9_-]{35}"),
    ("npm-token", "the shape of an npm token", "high", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    ("jwt", "a signed JSON web token", "medium",
     rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("url-password", "a password inside a URL", "medium",
     rb"\b[a-z][a-z0-9+.-]{1,15}://[^\s:/@'\"]{1,64}:[^\s/@'\"{}$<>%]{4,64}@[\w.-]+"),
)  # fmt: skip
_COMPILED = [(n, m, g, re.compile(p)) for n, m, g, p in _SHAPES]
_NAMED = re.compile(
    rb"(?i)\b[\w.\-]*(?:passw(?:or)?d|pwd|secret|token|api_?key|access_?key|private_?key|credential)"
    rb"[\w]*['\"]?\]?\s*(?::\s*\w+\s*)?(?::|=>|=|:=)\s*[rbuf]?(['\"`])([^'\"`\r\n]{6,256})\1"
)
_PLACEHOLDER = re.compile(
    rb"(?i)^(?:x+|\*+|\.+|-+|0+|1234567?8?9?0?|<.*>|\$\{.*\}|\$\w+|\{.*\}|%\w+%?|.*(?:your|example|"
    rb"changeme|change_me|placeholder|dummy|sample|redacted|todo|insert|replace|none|null|os\.environ"
    rb"|getenv).*)$"
)
_LEAST_BITS = 2.8  # a character; English words of 8 letters lie at 2.4-2.75, random ones above


@CHECKS.register("secrets")
def check(code: Code, options: Options) -> Found:
    """``secrets/...`` in any language; CWE-798, use of hard-coded credentials."""
    found: list[Finding] = []
    for name, message, confidence, pattern in _COMPILED:
        for hit in pattern.finditer(code.data):
            found.append(_finding(name, message, *hit.span(), confidence))
    known = [(f.start, f.end) for f in found]
    for hit in _NAMED.finditer(code.data):
        start, end = hit.span(2)
        value = hit.group(2)
        if any(a < end and start < b for a, b in known) or _PLACEHOLDER.match(value):
            continue
        if b" " not in value and bits(value) >= _LEAST_BITS:
            message = "a string that looks random is given to a name that says it is secret"
            found.append(_finding("named", message, start, end, "low"))
    return Found(found)


def bits(value: bytes) -> float:
    """Shannon entropy of its bytes, in bits a byte."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values()) if total else 0.0


def _finding(name: str, message: str, start: int, end: int, confidence: Grade) -> Finding:
    return Finding(f"secrets/{name}", message, start, end, "secrets", 798, "high", confidence)
