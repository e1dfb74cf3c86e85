"""Running the configuration files of FLAIR-1 unchanged.

`config` reads them, `recipe` turns them into recipes of covermap, `check` finds what cannot work,
`run` and `detect` do what they ask for.
"""
