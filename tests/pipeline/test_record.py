import os

import pytest

from nwbrecon import open_session
from nwbrecon.config import RunSettings, load_settings
from nwbrecon.errors import SettingsError
from nwbrecon.pipeline.record import Record, source_identity

SOURCE = {"identifier": "mouse", "location": "a.nwb", "digest": "d1", "stamps": [[1, 2]]}
TRAINING, RESULTS = ("alignment", "training"), ("alignment", "training", "results")


def settings(**overrides):
    return load_settings(RunSettings, **overrides)


@pytest.fixture
def begun(tmp_path):
    """A record of two steps, and what they made."""
    record = Record.open(tmp_path / "run.json", SOURCE, settings())
    for name, rests_on in (("encoder", TRAINING), ("results", RESULTS)):
        (tmp_path / name).write_text("made")
        with record.step(name, rests_on, tmp_path / name):
            pass
    return record


def steps(folder):
    return {"encoder": (TRAINING, folder / "encoder"), "results": (RESULTS, folder / "results")}


def done(record, folder):
    return [name for name, step in steps(folder).items() if record.done(name, *step)]


def test_what_is_done_stays_done(begun, tmp_path):
    record = Record.open(tmp_path / "run.json", SOURCE, settings())
    assert done(record, tmp_path) == ["encoder", "results"]
    assert record.stale(steps(tmp_path)) == []


def test_nothing_is_done_in_a_new_folder_and_nothing_is_written(tmp_path):
    record = Record.open(tmp_path / "run.json", SOURCE, settings())
    assert done(record, tmp_path) == []
    assert not any(tmp_path.iterdir())


def test_a_step_whose_product_is_gone_is_not_done(begun, tmp_path):
    (tmp_path / "encoder").unlink()
    assert done(begun, tmp_path) == ["results"]


def test_a_step_that_fails_is_not_done(tmp_path):
    record = Record.open(tmp_path / "run.json", SOURCE, settings())
    (tmp_path / "encoder").write_text("half")
    with pytest.raises(KeyboardInterrupt), record.step("encoder", TRAINING, tmp_path / "encoder"):
        raise KeyboardInterrupt
    assert done(Record.open(tmp_path / "run.json", SOURCE, settings()), tmp_path) == []


def test_other_settings_are_refused_and_named(begun, tmp_path):
    with pytest.raises(SettingsError, match=r"training\.members is 1 there and 3 here.*--overwrite"):
        Record.open(tmp_path / "run.json", SOURCE, settings(training__members=3))


def test_another_source_is_refused(begun, tmp_path):
    with pytest.raises(SettingsError, match='source digest is "d1" there and "d2" here'):
        Record.open(tmp_path / "run.json", SOURCE | {"digest": "d2"}, settings())


def test_a_source_that_was_moved_is_the_same(begun, tmp_path):
    moved = SOURCE | {"location": "elsewhere/a.nwb", "stamps": [[1, 7]]}
    assert done(Record.open(tmp_path / "run.json", moved, settings()), tmp_path) == ["encoder", "results"]


def test_overwriting_keeps_what_does_not_rest_on_what_differs(begun, tmp_path):
    record = Record.open(tmp_path / "run.json", SOURCE, settings(results__movie_dtype="float32"), overwrite=True)
    assert done(record, tmp_path) == ["encoder"]
    assert record.stale(steps(tmp_path)) == [tmp_path / "results"]
    record = Record.open(tmp_path / "run.json", SOURCE, settings(training__members=3), overwrite=True)
    assert done(record, tmp_path) == []


def test_overwriting_the_same_does_all_anew(begun, tmp_path):
    assert done(Record.open(tmp_path / "run.json", SOURCE, settings(), overwrite=True), tmp_path) == []


def test_a_record_of_another_form_is_refused(begun, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"form": 1', '"form": 99'))
    with pytest.raises(SettingsError, match="another version"):
        Record.open(path, SOURCE, settings())


def test_half_done_work_has_a_place_of_its_own_for_each_setting(begun, tmp_path):
    other = Record(tmp_path / "run.json", SOURCE, settings(training__members=3))
    assert begun.state_key(TRAINING) != other.state_key(TRAINING)
    assert begun.state_key(("results",)) == other.state_key(("results",))


def test_the_bytes_of_a_source_are_read_once(mouse, tmp_path, monkeypatch):
    record = tmp_path / "run.json"
    with open_session(mouse) as session:
        identity = source_identity(session, record)
        assert len(identity["digest"]) == 64
        Record(record, identity, settings()).write()
        monkeypatch.setattr("nwbrecon.sources.local.digest", lambda _: pytest.fail("the file was read again"))
        assert source_identity(session, record) == identity


def test_a_source_that_was_touched_is_looked_at_again(tmp_path, mouse):
    copy, record = tmp_path / "mouse.nwb", tmp_path / "run.json"
    copy.write_bytes(mouse.read_bytes())
    with open_session(copy) as session:
        Record(record, source_identity(session, record) | {"digest": "stale"}, settings()).write()
        assert source_identity(session, record)["digest"] == "stale"
        os.utime(copy, ns=(0, 0))
        assert source_identity(session, record)["digest"] == session.source.digest()
