"""The tables as SQLAlchemy sees them (the truth is in ``migrations``; a test compares the two)."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, Table, Text

METADATA = MetaData()

SESSIONS = Table(
    "sessions", METADATA,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("updated", Text, nullable=False),
    Column("deleted", Text),
)  # fmt: skip

NODES = Table(
    "nodes", METADATA,
    Column("id", Text, primary_key=True),
    Column("session", Text, ForeignKey("sessions.id"), nullable=False),
    Column("parent", Text, ForeignKey("nodes.id")),
    Column("at", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("excerpt", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("finish", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("own_tokens", Integer, nullable=False),
    Column("own_logprob", Float),
    Column("own_surprisal", Float),
    Column("deleted_by", Text),
)  # fmt: skip
"""Columns of ``nodes`` that :func:`tokenscope.store.rows.measured` fills."""
