"""Labelled imagery: samples, the patch index, layouts, splits, statistics, augmentation, patches.

One concept per module; import from the module that holds it, e.g.
`from covermap.data.patches import TrainingPatches`.
"""

from __future__ import annotations
