"""Configurations and short programs to copy from."""
