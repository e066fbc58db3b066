"""The proof: a policy that learns the task from our own pixels, and what each reward does to it.

python -m examples.proof [--part core|all] [--out proof] [--jobs 2]
python -m examples.proof.document proof docs/proof.md

Every stage is a `tvr` command with a configuration of this folder: stages.py lists them,
__main__.py lets make run them, run_stage.py runs one, and document.py writes what came of it.

stages/NAME.json   of a stage that is done, in the proof's folder: its seconds, threads, arguments
logs/NAME.log      what it printed
"""
