"""Sizao: what all rooms share."""
