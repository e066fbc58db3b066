"""The proof: a policy that learns the task from our own pixels, and what each reward does to it.

python -m examples.proof [--part core|all] [--out proof] [--jobs 2]
python -m examples.proof.document proof docs/proof.md

Every stage is a `tvr` command with a configuration of this folder; stages.py lists them, run.py
carries them out, and document.py writes what came of it.
"""
