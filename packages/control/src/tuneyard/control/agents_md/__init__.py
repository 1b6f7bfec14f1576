"""AGENTS.md: what is recorded there, and what changed since."""
