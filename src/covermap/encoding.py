"""From the codes and colours of label files to class indices. Used by `covermap.legend` alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from covermap.errors import LegendError
from covermap.tables.fields import Color, hex_color

MAX_CODE = 65535
"""Largest integer that a label file may hold."""

_IGNORE = 255
_SHOWN = 8


class LabelEncoder:
    """Turns labels of one legend into class indices.

    Args:
        legend: name of the legend, for messages.
        codes: integers that mean each class, in index order.
        colors: colour of each class, in index order.
        ignored: integers that never count; 255 never counts unless a class claims it.
        ignored_colors: colours that never count.
    """

    def __init__(
        self,
        legend: str,
        codes: Sequence[Sequence[int]],
        colors: Sequence[Color],
        ignored: Sequence[int],
        ignored_colors: Sequence[Color],
    ) -> None:
        self._legend = legend
        self._table: npt.NDArray[np.int16] = np.full(MAX_CODE + 1, -1, np.int16)
        self._table[[_IGNORE, *ignored]] = _IGNORE
        for index, entry in enumerate(codes):
            self._table[list(entry)] = index
        self._known = sorted({code for entry in codes for code in entry} | set(ignored))
        self._colors = tuple(colors)
        packed = {_pack(color): _IGNORE for color in ignored_colors}
        packed |= {_pack(color): index for index, color in enumerate(colors)}
        self._packed = np.array(sorted(packed), np.uint32)
        self._packed_index = np.array([packed[key] for key in sorted(packed)], np.int16)

    def encode(
        self, label: npt.NDArray[Any], unknown: Literal["error", "ignore"], where: str
    ) -> npt.NDArray[np.uint8]:
        """Turn codes or colours into class indices; see `Legend.encode`.

        Args:
            label: (H, W) integers or whole-numbered floats, codes 0 to 65535; or (H, W, 3) uint8,
                red, green, blue.
            unknown: what becomes of codes that the legend does not know.
            where: what to call the label in messages.

        Returns:
            (H, W) uint8, class index 0 to K-1, 255 ignore.

        Raises:
            LegendError: see `Legend.encode`.
        """
        if label.ndim == 3 and label.shape[2] == 3 and label.dtype == np.uint8:
            found = self._from_colors(label, where)
        elif label.ndim == 2:
            found = self._from_codes(label)
        else:
            raise LegendError(
                f"{where} is an array of shape {label.shape} and dtype {label.dtype}; expected "
                "(height, width) codes or (height, width, 3) uint8 colours."
            )
        missing = found < 0
        if missing.any():
            if unknown == "error":
                raise LegendError(self._explain(label[missing], label, where))
            found[missing] = _IGNORE
        return found.astype(np.uint8)

    def _from_codes(self, label: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
        if label.dtype in (np.uint8, np.uint16):
            return np.take(self._table, label)
        inside = (label >= 0) & (label <= MAX_CODE)
        if label.dtype.kind == "f":
            inside &= label == np.floor(label)
        codes = np.where(inside, label, 0).astype(np.int64)
        return np.where(inside, np.take(self._table, codes), np.int16(-1))

    def _from_colors(self, label: npt.NDArray[np.uint8], where: str) -> npt.NDArray[np.int16]:
        shared = sorted({hex_color(c) for c in self._colors if self._colors.count(c) > 1})
        if shared:
            raise LegendError(
                f"Legend {self._legend!r} gives several classes the colour {', '.join(shared)}, so "
                f"the colour mask {where} cannot be read with it. Give each class its own colour."
            )
        parts = label.astype(np.uint32)
        packed = (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]
        position = np.minimum(np.searchsorted(self._packed, packed), len(self._packed) - 1)
        known = self._packed[position] == packed
        return np.where(known, self._packed_index[position], np.int16(-1))

    def _explain(self, wrong: npt.NDArray[Any], label: npt.NDArray[Any], where: str) -> str:
        values, counts = np.unique(wrong, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_SHOWN]
        if wrong.ndim == 2:
            what, known = "colours", ", ".join(hex_color(color) for color in self._colors)
            shown = ", ".join(f"{hex_color(values[i])} ({counts[i]} px)" for i in order)
        else:
            what, known = "values", ", ".join(str(code) for code in self._known)
            shown = ", ".join(f"{values[i]} ({counts[i]} px)" for i in order)
        more = ", ..." if len(values) > _SHOWN else ""
        share = 100 * len(wrong) / max(1, math.prod(label.shape[:2]))
        return (
            f"{where} holds {what} that the legend {self._legend!r} does not know: {shown}{more}; "
            f"{share:.2g} % of its pixels. Known {what}: {known}. Choose the legend that fits, "
            "list them under 'ignored', or read with unknown='ignore'."
        )


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
