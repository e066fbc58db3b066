"""The world in plain Python: what a scene is, and what may happen in it.

Nothing here knows about Blender, files or models; it needs only numpy.
"""
