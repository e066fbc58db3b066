"""`Episodes` and the reward in the conventions of other trainers: one file for each library.

Each file imports its library, so import only the one that you use; none is needed by anything else
here. docs/environments.md shows how each is used.
"""
