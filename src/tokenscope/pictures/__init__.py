"""Traces and trees as self-contained HTML: no script, nothing fetched, light and dark.

Every function here takes the thing and gives a :class:`tokenscope.trace.drawn.Picture`.
"""
