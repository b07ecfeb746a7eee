"""Probes: one file a signal, each owning the hooks that see it."""
