"""Attacks on everything that is read: `python -m tests.fuzz` (`make fuzz`).

originals.py     a small, right instance of every kind of file
mutations.py     what is done to a document, to bytes, and to a file as a whole
kinds.py         what is attacked, with which commands, and when success would be wrong
sandbox.py       one command on one attacked copy, in a process with limits; what came of it
corpus/          inputs that once fell, tried again by tests/test_fuzz.py
"""
