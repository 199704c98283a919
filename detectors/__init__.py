"""Frames in, signals out. A thin loop (`detect`) around plain functions over arrays."""
