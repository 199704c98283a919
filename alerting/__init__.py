"""Signals in, people told."""
