"""Files of rows: lines that are right, cells that are text, faults in order."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from ingest import geojson, sheet
from ingest.faults import Faults, nearest
from ingest.sheet import Layout
from sizao.errors import BadInput

LAYOUT = Layout(columns=("code", "name", "lon", "lat"), needed=("code",), numbers=("lon", "lat"))
CELL = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
NUMBER = st.one_of(st.just(""), st.floats(-180, 180).map(repr))


@pytest.fixture
def csv(tmp_path):
    def read(raw: bytes):
        path = tmp_path / "f.csv"
        path.write_bytes(raw)
        return sheet.read(path, LAYOUT)

    return read


def test_lines_are_those_of_the_file(csv):
    rows = csv(b'\xef\xbb\xbfcode, name \r\n\r\n a ,"two\nlines"\r\n\r\nb,\r\n')
    assert rows.places == [3, 6]
    assert rows.columns == {"code": ["a", "b"], "name": ["two\nlines", ""]}
    assert rows.column("lon") == ["", ""]


def test_a_file_of_a_spreadsheet_in_gbk_is_named(csv):
    with pytest.raises(BadInput, match=r"f.csv:2: not UTF-8; it looks like GBK; save it as UTF-8"):
        csv("code,name\na,3号楼\n".encode("gbk"))


@pytest.mark.parametrize("raw", [b"", b"\n", b"code;name\n", b'code\n"a\n'])
def test_what_is_no_such_csv_is_refused(csv, raw):
    with pytest.raises(BadInput, match=r"f\.csv"):
        csv(raw).faults.raise_any()


def test_a_file_with_no_rows_has_none(csv):
    assert len(csv(b"code,name\n")) == 0


@pytest.mark.parametrize("name", ["f.xlsx", "absent.csv", "absent.parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(BadInput, match=name):
        sheet.read(tmp_path / name, LAYOUT)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@given(rows=st.lists(st.tuples(CELL.filter(bool), CELL, NUMBER, NUMBER), max_size=5))
def test_what_was_written_comes_back(tmp_path_factory, ending, rows):
    path = tmp_path_factory.mktemp("sheet") / f"f.{ending}"
    columns = {name: [row[place] for row in rows] for place, name in enumerate(LAYOUT.columns)}
    sheet.write(path, columns, LAYOUT)
    assert sheet.read(path, LAYOUT).columns == columns


def test_parquet_of_other_types(tmp_path):
    path = tmp_path / "f.parquet"
    code = pa.array(["a", None, "a"]).dictionary_encode()
    lon = pa.array([1, 2, 3], pa.int32())
    lat = pa.array([0.5, None, float("nan")], pa.float32())
    parquet.write_table(pa.table({"code": code, "lon": lon, "lat": lat}), path)
    assert sheet.read(path, LAYOUT).columns == {
        "code": ["a", "", "a"],
        "lon": ["1", "2", "3"],
        "lat": ["0.5", "", ""],
    }
    parquet.write_table(pa.table({"code": [1.5, 2.5]}), path)
    with pytest.raises(BadInput, match="code: is of type double, expected text"):
        sheet.read(path, LAYOUT)
    path.write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        sheet.read(path, LAYOUT)


def feature(geometry: str, properties: str = '{"code": "a"}') -> str:
    return f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}'


def collection(tmp_path, *features: str):
    path = tmp_path / "f.geojson"
    path.write_text(f'{{"type": "FeatureCollection", "features": [{", ".join(features)}]}}')
    return geojson.read(path, LAYOUT)


def test_the_middle_of_geometries(tmp_path):
    ring = "[[0,0],[2,0],[2,1],[0,1],[0,0]]"
    small = "[[9,9],[9.1,9],[9.1,9.1],[9,9]]"
    rows = collection(
        tmp_path,
        feature('{"type": "Point", "coordinates": [1.5, 2, 30]}'),
        feature(f'{{"type": "Polygon", "coordinates": [{ring}, {small}]}}'),
        feature(f'{{"type": "MultiPolygon", "coordinates": [[{small}], [{ring}]]}}'),
        feature("null"),
    )
    assert rows.columns["lon"] == ["1.5", "1.0", "1.0", ""]
    assert rows.columns["lat"] == ["2.0", "0.5", "0.5", ""]
    assert len(rows.faults) == 0


@pytest.mark.parametrize(
    ("geometry", "properties", "said"),
    [
        (
            '{"type": "LineString", "coordinates": [[1,2],[3,4]]}',
            "{}",
            "geometry: got 'LineString'",
        ),
        (
            '{"type": "Point", "coordinates": ["1", "2"]}',
            "{}",
            "geometry: got 'Point', expected a whole",
        ),
        (
            '{"type": "Polygon", "coordinates": [[[0,0],[1,0],[1,1]]]}',
            "{}",
            "geometry: got 'Polygon'",
        ),
        (
            '{"type": "Polygon", "coordinates": [[[0,0],[1,0],[2,0],[0,0]]]}',
            "{}",
            "geometry: got 'Polygon'",
        ),
        ("7", "{}", "geometry: got 7"),
        ("null", '{"nam": 1}', "nam: unknown property, expected some of code, name; nearest: name"),
        ("null", '{"code": 1.5}', "code: got 1.5, expected text or a whole number"),
        ("null", '{"code": true}', "code: got True"),
    ],
)
def test_what_a_feature_may_not_be(tmp_path, geometry, properties, said):
    rows = collection(tmp_path, feature("null"), feature(geometry, properties))
    with pytest.raises(BadInput) as refusal:
        rows.faults.raise_any()
    assert f"f.geojson:feature 2: {said}" in str(refusal.value)


@pytest.mark.parametrize("text", ["[]", "{}", '{"type": "FeatureCollection"}', '{"a": NaN}', ""])
def test_what_is_no_collection_is_refused(tmp_path, text):
    path = tmp_path / "f.geojson"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"f\.geojson: .*expected"):
        geojson.read(path, LAYOUT)


def test_a_feature_that_is_none_lacks_what_it_lacks(tmp_path):
    rows = collection(tmp_path, "7", '{"properties": []}')
    assert rows.columns["code"] == ["", ""]


def test_faults_are_told_in_the_order_of_the_file_and_counted_beyond_a_bound():
    faults = Faults("f", "row ", ["a", "b"])
    for place in range(10_000, 0, -1):
        faults.add(place, "b", "bad")
        faults.add(place, "a", "bad")
    faults.add(0, "b", "all of it")
    assert len(faults) == 20_001
    with pytest.raises(BadInput) as refusal:
        faults.raise_any()
    lines = str(refusal.value).splitlines()
    assert lines[:3] == ["f: b: all of it", "f:row 1: a: bad", "f:row 1: b: bad"]
    assert (len(lines), lines[-1]) == (201, "f: ... and 19,801 more faults")


def test_the_nearest_of_a_hundred_thousand_names():
    known = {f"site-{site:04}-f{floor}" for site in range(10_000) for floor in range(10)}
    assert nearest("site-1234-f77", known) == "site-1234-f7"
    assert nearest("sit-1234-f7", known) == "site-1234-f7"
    assert nearest("1234", {"gateway", "platform"}) == ""
