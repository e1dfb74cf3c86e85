from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from mapping_helpers import make_legend

from covermap.grid import Window
from covermap.mapping.result import MapResult, MaskedWindow
from covermap.raster.areas import ClassAreas


def test_everything_as_plain_values():
    result = MapResult(
        path=Path("m.tif"),
        outputs={"entropy": Path("m_entropy.tif")},
        areas=ClassAreas(make_legend(2), np.array([300, 100]), np.array([3.0, 1.0]), 7, 0.07),
        masked=(MaskedWindow(Window(1, 2, 3, 4), "broken"),),
        settings={"tile": (16, 16)},
    )
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["outputs"] == {"entropy": "m_entropy.tif"}
    assert plain["masked"] == [{"row": 1, "col": 2, "height": 3, "width": 4, "error": "broken"}]
    assert plain["areas"]["classes"]["class 1"] == {"pixels": 100, "hectares": 1.0}
    assert plain["areas"]["nodata"]["pixels"] == 7
