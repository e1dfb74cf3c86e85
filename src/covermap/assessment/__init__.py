"""Scores, areas, pictures and reports of maps and models.

`evaluate` scores any classified raster, `areas` measures its classes, `previews` and `pictures`
show it, `report` puts all of it into one HTML file.
"""
