"""Ways to learn, one module each (`supervised`), and what they share.

The run directory (`run`), losses, schedules, optimisers, moving averages, selection, checkpoints
and the evaluation of a network know nothing of each other; `loop` and `module` put them together
for Lightning, `supervised` for the caller.
"""

from __future__ import annotations
