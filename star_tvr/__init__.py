"""Everything that is installed lies below this package; its parts are the folders of their names.

`star_tvr/scenes` is a link to `scenes`, and so on: the code is at the top of the repository, and a
user's own packages called `training` or `schemas` are never in its way.
"""
