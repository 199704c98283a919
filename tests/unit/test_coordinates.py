"""GCJ-02 and BD-09 against published points, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.coordinates import Crs, distance_m, shifted, to_wgs84


def at(lon, lat):
    return np.array([lon]), np.array([lat])


# Test points that eviltransform and coordtransform publish.
GCJ02 = [
    ((116.404, 39.915), (116.41024449916938, 39.91640428150164)),
    ((121.5272106, 31.1774276), (121.531541859215, 31.17530398364597)),
    ((113.912316, 22.543847), (113.9171764808363, 22.540796131694766)),
    ((116.377817, 39.911954), (116.38404722455657, 39.91334545536069)),
]
BD09 = [((116.404, 39.915), (116.41662724378733, 39.922699552216216))]


@pytest.mark.parametrize(
    ("crs", "wgs84", "there"),
    [*((Crs.GCJ02, *pair) for pair in GCJ02), *((Crs.BD09, *pair) for pair in BD09)],
)
def test_published_points(crs, wgs84, there):
    assert np.allclose(shifted(*at(*wgs84), crs), at(*there), rtol=0, atol=1e-9)
    assert np.allclose(to_wgs84(*at(*there), crs), at(*wgs84), rtol=0, atol=1e-9)


@pytest.mark.parametrize("crs", Crs)
@given(lon=st.floats(73, 137), lat=st.floats(1.5, 55))
def test_there_and_back(crs, lon, lat):
    back = to_wgs84(*shifted(*at(lon, lat), crs), crs)
    assert np.allclose(back, at(lon, lat), rtol=0, atol=1e-9)


@pytest.mark.parametrize("crs", Crs)
@pytest.mark.parametrize("place", [(152.0, 25.0), (2.35, 48.86), (-74.0, 40.7), (71.9, 30.0)])
def test_no_shift_outside_of_the_box(crs, place):
    assert np.array_equal(shifted(*at(*place), crs), at(*place))
    assert np.array_equal(to_wgs84(*at(*place), crs), at(*place))


def test_nan_stays():
    for crs in Crs:
        assert np.isnan(to_wgs84(*at(np.nan, np.nan), crs)).all()


def test_distances():
    assert distance_m(at(135.0, 0.0), at(135.0, 1.0)) == pytest.approx(111_195, rel=1e-3)
    assert distance_m(at(135.0, 60.0), at(136.0, 60.0)) == pytest.approx(55_597, rel=1e-3)
    (shift,) = distance_m(at(116.404, 39.915), shifted(*at(116.404, 39.915), Crs.GCJ02))
    assert 500 < shift < 600
