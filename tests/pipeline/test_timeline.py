import pytest

from nwbrecon.errors import SettingsError
from nwbrecon.pipeline.inspection import Inspection
from nwbrecon.pipeline.timeline import draw_timeline, timeline_figure


@pytest.fixture
def inspection():
    shown = [(0.0, 10.0, "a", "movie"), (10.0, 12.0, "gray", "gray"), (12.0, 22.0, "b", "movie")]
    shown += [(22.0, 32.0, "a", "movie"), (32.0, 40.0, "grating 3", "grating")]
    return Inspection(
        identity={"session_id": "4-scan-7"},
        subject={},
        planes=[{"name": "plane 1", "start": 1.0, "stop": 41.0}],
        stimuli=[],
        repeats=[],
        behavior=[{"name": "running_speed", "start": 2.0, "stop": 39.0}],
        overlap={},
        timeline=[
            {"onset": onset, "offset": offset, "clip": clip, "kind": kind, "stimulus": "movie"}
            for onset, offset, clip, kind in shown
        ],
    )


def spans(axes):
    """Starts and stops of the bars of each lane."""
    return [
        [(box.x0, box.x1) for box in (path.get_extents() for path in lane.get_paths())] for lane in axes.collections
    ]


def test_every_lane_says_when(inspection):
    (axes,) = timeline_figure(inspection).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["gray", "movies", "gratings", "a (2 x)", "plane 1", "running_speed"]
    assert spans(axes) == [
        [(10.0, 12.0)], [(12.0, 22.0)], [(32.0, 40.0)], [(0.0, 10.0), (22.0, 32.0)], [(1.0, 41.0)], [(2.0, 39.0)],
    ]  # fmt: skip
    assert axes.get_xlabel().endswith("(s)")


def test_long_recordings_are_drawn_in_minutes(inspection):
    inspection.planes[0]["stop"] = 600.0
    (axes,) = timeline_figure(inspection).axes
    assert axes.get_xlabel().endswith("(min)")
    assert spans(axes)[4] == [(pytest.approx(1 / 60), pytest.approx(10.0))]


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_name_says_what_kind_of_picture(inspection, tmp_path, suffix, begins):
    draw_timeline(inspection, tmp_path / f"timeline{suffix}")
    assert (tmp_path / f"timeline{suffix}").read_bytes().startswith(begins)


def test_a_picture_of_no_kind_is_refused(inspection, tmp_path):
    with pytest.raises(SettingsError, match="what kind of picture"):
        draw_timeline(inspection, tmp_path / "timeline.txt")
