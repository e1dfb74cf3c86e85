"""Land-cover maps from few, coarse or borrowed labels."""

from __future__ import annotations

__version__ = "0.1.0"
