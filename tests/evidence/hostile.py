"""Texts that try to become markup, script, formulas or terminal commands."""

from __future__ import annotations

_TAGS = ("script", "img", "svg", "iframe", "math", "object", "embed", "style", "link", "base",
         "meta", "form", "video", "audio", "details", "template", "noscript", "textarea", "title",
         "body")  # fmt: skip
_HANDLERS = ("onerror", "onload", "onfocus", "ontoggle", "onmouseover", "onbegin", "onanimationend",
             "onpointerenter", "onstart", "oncut")  # fmt: skip
RUN = "window.fired=1"


def vectors() -> list[str]:
    """200 of them: every tag and handler, breaking out of attributes, comments, code blocks."""
    made = [f"<{t} {h}={RUN} src=x autofocus open>" for t in _TAGS for h in _HANDLERS[:6]]
    made += [f"<script>{RUN}</script>", f"<svg><script>{RUN}</script></svg>"]
    for out in ('"', "'", "`", '">', "'>", "-->", "]]>", "*/", "</style>", "</pre>", "</code>",
                "</span>", "</title>", "</textarea>", "</summary></details>"):  # fmt: skip
        made += [f"{out}<img src=x onerror={RUN}>", f"{out} onmouseover={RUN} x="]
    made += [f"[a](javascript:{RUN})", f"![a](javascript:{RUN})", f"<javascript:{RUN}>",
             f"```\n<script>{RUN}</script>", f"{{{{ {RUN} }}}}", f"{{% {RUN} %}}", "\0<script>",
             f"\u202e<script>{RUN}</script>", f"&lt;script&gt;{RUN}&lt;/script&gt;",
             f"<scr\u200bipt>{RUN}</script>"]  # fmt: skip
    made += [f"<a href='javascript:{RUN}' id=x{i}>y</a>" for i in range(200 - len(made))]
    return made[:200]


FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\u200b=1",
    "＝1+1",
    " =cmd|' /C calc'!A0",
)
