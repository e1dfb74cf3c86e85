"""Procedural landscapes with exact truth, and sensors that look at them.

A `Landscape` is a country without borders: any window of it can be composed alone, with the same
bytes as within a larger one. Renderers show it as an aerial camera, Sentinel-2 or Sentinel-1 would,
under chosen `Conditions`; labels can be made coarse or wrong in known ways.
"""

from covermap.synth.conditions import Conditions, Swath
from covermap.synth.degrade import coarse_labels, confuse, observed_labels, valid_mask
from covermap.synth.demo import DemoFiles, write_demo, write_scene
from covermap.synth.few_shot import FewShotFiles, write_oem_fewshot
from covermap.synth.flair import FlairFiles, write_flair
from covermap.synth.landscape import Landscape
from covermap.synth.materials import CLASSES, S2_BANDS, Season
from covermap.synth.render import (
    AERIAL_BANDS,
    S1_BANDS,
    aerial,
    render_aerial,
    render_sentinel1,
    render_sentinel2,
)
from covermap.synth.sen12ms import Sen12msFiles, write_sen12ms
from covermap.synth.terrain import Character
from covermap.synth.view import View

__all__ = [
    "AERIAL_BANDS",
    "CLASSES",
    "S1_BANDS",
    "S2_BANDS",
    "Character",
    "Conditions",
    "DemoFiles",
    "FewShotFiles",
    "FlairFiles",
    "Landscape",
    "Season",
    "Sen12msFiles",
    "Swath",
    "View",
    "aerial",
    "coarse_labels",
    "confuse",
    "observed_labels",
    "render_aerial",
    "render_sentinel1",
    "render_sentinel2",
    "valid_mask",
    "write_demo",
    "write_flair",
    "write_oem_fewshot",
    "write_scene",
    "write_sen12ms",
]
