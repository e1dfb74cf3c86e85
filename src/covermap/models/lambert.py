"""Lambert-93, the projection of mainland France: the Lambert conformal conic of EPSG:2154.

Closed formulas of Snyder, Map Projections, A Working Manual (1987), section 15, for the ellipsoid
and two standard parallels. WGS 84 and the datum of Lambert-93 (RGF93) are taken as one; they differ
by less than a metre.
"""

from __future__ import annotations

import math

_SEMI_MAJOR = 6378137.0
_FLATTENING = 1 / 298.257222101
_ECCENTRICITY = math.sqrt(_FLATTENING * (2 - _FLATTENING))
_LONGITUDE, _LATITUDE = math.radians(3.0), math.radians(46.5)
_PARALLELS = (math.radians(49.0), math.radians(44.0))
_EASTING, _NORTHING = 700_000.0, 6_600_000.0


def _radius(latitude: float) -> float:
    """Radius of a parallel, in semi-major axes."""
    return math.cos(latitude) / math.sqrt(1 - (_ECCENTRICITY * math.sin(latitude)) ** 2)


def _half_angle(latitude: float) -> float:
    """Tangent of half the angle from the pole, on the conformal sphere."""
    sine = _ECCENTRICITY * math.sin(latitude)
    stretch = math.pow((1 + sine) / (1 - sine), _ECCENTRICITY / 2)
    return math.tan(math.pi / 4 - latitude / 2) * stretch


_CONE = math.log(_radius(_PARALLELS[0]) / _radius(_PARALLELS[1])) / math.log(
    _half_angle(_PARALLELS[0]) / _half_angle(_PARALLELS[1])
)
_SCALE = (
    _SEMI_MAJOR * _radius(_PARALLELS[0]) / (_CONE * math.pow(_half_angle(_PARALLELS[0]), _CONE))
)
_ORIGIN = _SCALE * math.pow(_half_angle(_LATITUDE), _CONE)


def lambert93(longitude: float, latitude: float) -> tuple[float, float]:
    """Project a place to Lambert-93.

    Args:
        longitude: degrees, WGS 84.
        latitude: degrees, WGS 84, above -90.

    Returns:
        Easting and northing, metres.
    """
    distance = _SCALE * math.pow(_half_angle(math.radians(latitude)), _CONE)
    angle = _CONE * (math.radians(longitude) - _LONGITUDE)
    return _EASTING + distance * math.sin(angle), _NORTHING + _ORIGIN - distance * math.cos(angle)
