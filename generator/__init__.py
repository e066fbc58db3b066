"""Making data sets: drawing planned samples with Blender and writing what comes out.

Only `blender`, `stage` and `materials` touch bpy, and they import it when they first need it.
"""
