"""The HTML page about training runs and evaluations.

`page` puts together what `tables`, `curves`, `plots` and `gallery` make of what `folders` finds.
"""

from star_tvr.training.report.page import run as run
