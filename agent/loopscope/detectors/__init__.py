"""Detectors: one file a rule family, state machines that turn reports into events."""
