"""Data sets in the forms that other programs read. docs/formats.md describes them."""
