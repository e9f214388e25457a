"""Brings the toolchains and the sandbox onto a fresh machine, where that is allowed."""
