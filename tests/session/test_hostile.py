"""Files that are damaged, wrong or made to harm: a clear error, or the right result and a warning; nothing else.

Each is opened and aligned in a process of its own with little memory to spare and little time, so that one that hangs,
kills the interpreter or fills the memory fails its test. What lies outside the folder of the file is a secret that no
result may hold.
"""

import gzip
import multiprocessing
import os
import pickle
import resource
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.image import ImageSeries

import nwbrecon as nr
from nwbrecon.errors import NwbreconError

from .conftest import add_dff, add_plane, clip_frames, new_file, write

SPARE_BYTES = 700_000_000
SECONDS = 40
SECRET = 7777.0
N_CLIPS, N_FRAMES, N_ROIS, N_SAMPLES = 8, 30, 4, 200

DFF = "processing/ophys/DfOverF/events"
MOVIE = "stimulus/presentation/movie"
SPEED = "acquisition/running_speed"
TABLE = "processing/ophys/ImageSegmentation/PlaneSegmentation1"
TRIALS = "intervals/trials"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A file without a fault."""
    nwb = new_file()
    rng = np.random.default_rng(0)
    table = add_plane(nwb, 1, N_ROIS, 10.0)
    values = rng.gamma(1.0, 1.0, (N_SAMPLES, N_ROIS)).astype(np.float32)
    add_dff(nwb, values, table, name="events", timestamps=1 + np.arange(N_SAMPLES) / 10)
    movie = np.concatenate([clip_frames(number, N_FRAMES) for number in range(N_CLIPS)])
    stamps = np.concatenate([3.0 + 2 * k + np.arange(N_FRAMES) / 30 for k in range(N_CLIPS)])
    nwb.add_stimulus(ImageSeries(name="movie", data=movie, unit="n.a.", timestamps=stamps))
    nwb.add_trial_column(name="clip", description="name")
    for number in range(N_CLIPS):
        nwb.add_trial(start_time=3.0 + 2 * number, stop_time=4.0 + 2 * number, clip=f"c{number}")
    speed = rng.normal(5, 1, 1000)
    nwb.add_acquisition(
        TimeSeries(name="running_speed", data=speed, unit="cm/s", timestamps=0.5 + np.arange(1000) / 50)
    )
    folder = tmp_path_factory.mktemp("sound")
    with h5py.File(folder / "secret.h5", "w") as file:
        file["data"] = np.full((N_SAMPLES, N_ROIS), SECRET, np.float32)
    np.full((N_SAMPLES, N_ROIS), SECRET, np.float32).tofile(folder / "secret.raw")
    return write(nwb, folder / "mouse.nwb")


@dataclass
class Outcome:
    error: str = ""
    message: str = ""
    said: str = ""
    rois: int = 0
    trials: int = 0
    greatest: float = 0.0
    clips: list = field(default_factory=list)
    behavior: tuple = ()


def attempt(path, connection):
    """Open and align; whatever comes of it is sent back."""
    with Path("/proc/self/statm").open() as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + SPARE_BYTES, mapped + SPARE_BYTES))
    warnings.simplefilter("ignore")
    try:
        with nr.open_session(path) as session:
            repr(session)
            aligned = nr.align(session, frame_rate=10, frame_size=(6, 10), min_clip_seconds=0.5, guard_seconds=0.0)
            repr(aligned)
        known = np.concatenate([group.activity.ravel() * group.scale.max() for group in aligned.groups])
        outcome = Outcome(
            said=" ".join(aligned.warnings),
            rois=aligned.n_rois,
            trials=len(aligned.trials),
            greatest=float(np.nanmax(known)),
            clips=list(aligned.trials["clip"]),
            behavior=aligned.behavior_names,
        )
    except NwbreconError as error:
        outcome = Outcome(error=type(error).__name__, message=str(error))
    except BaseException as error:
        import traceback

        outcome = Outcome(error=f"not a NwbreconError: {type(error).__name__}", message=traceback.format_exc())
    connection.send(outcome)
    connection.close()


def outcome_of(path):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=attempt, args=(path, sender))
    process.start()
    sender.close()
    try:
        assert receiver.poll(SECONDS), "it hangs"
        return receiver.recv()
    except EOFError:
        process.join()
        pytest.fail(f"the interpreter died ({process.exitcode})")
    finally:
        process.kill()
        process.join()


def replaced(file, name, **options):
    """Put another data set in the place of one, its attributes kept."""
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, **options)
    file[name].attrs.update(attributes)


def claimed(file, name, shape, dtype="f8"):
    """A data set that claims a size of which hardly a byte is there."""
    replaced(file, name, shape=shape, dtype=dtype, chunks=tuple(min(size, 64) for size in shape))


def with_rate(file, name, rate, start=1.0):
    del file[name]["timestamps"]
    file[name].create_dataset("starting_time", data=start)
    file[name]["starting_time"].attrs.update({"rate": rate, "unit": "seconds"})


# file by file: what is put in its place


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("subject,responses\n1,2\n" * 100)


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(50_000))


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_header(path):
    path.write_bytes(path.read_bytes()[:600])


def signature_only(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + np.random.default_rng(1).bytes(5000))


def scrambled(path):
    """Every tenth byte of the middle third is another."""
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third : 10] = b"\xff" * len(range(third, 2 * third, 10))
    path.write_bytes(data)


def zipped(path):
    path.write_bytes(gzip.compress(path.read_bytes()))


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def pickled(path):
    path.write_bytes(pickle.dumps(_Harm()))


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["entry/data"] = np.arange(10)


def nwb_one(path):
    with h5py.File(path, "w") as file:
        file["nwb_version"] = "NWB-1.0.6"


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def nowhere(path):
    path.unlink()
    path.symlink_to(path.parent / "gone.nwb")


def loop(path):
    path.unlink()
    path.symlink_to(path)


def folder(path):
    path.unlink()
    path.mkdir()


FILES = [
    (empty, "is empty"),
    (text, "is not an HDF5 file"),
    (noise, "is not an HDF5 file"),
    (cut_in_half, "cut short"),
    (cut_to_header, "cut short|cannot be opened"),
    (signature_only, "cannot be opened"),
    (scrambled, ""),
    (zipped, "is not an HDF5 file"),
    (pickled, "is not an HDF5 file"),
    (other_hdf5, "HDF5, but not NWB"),
    (nwb_one, "NWB 1 file"),
    (pipe, "neither a file nor a folder"),
    (nowhere, "There is no file"),
    (loop, "There is no file|cannot be followed"),
    (folder, "holds no NWB file"),
]


@pytest.mark.parametrize(("harm", "words"), FILES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_sound_file_is_refused(harm, words, sound, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(shutil.copy(sound, tmp_path / "mouse.nwb"))
    harm(path)
    outcome = outcome_of(path)
    assert outcome.error in ("SourceError", "SessionError"), outcome.message
    assert_matches(words, outcome.message)
    assert not (tmp_path / "harmed").exists()


def assert_matches(words, text):
    import re

    assert re.search(words, text), text


# links that lead elsewhere: (what to do to the file, words of the error, or of a warning where the rest can be used)


def external(target):
    def change(file, outside):
        del file[f"{DFF}/data"]
        file[f"{DFF}/data"] = h5py.ExternalLink(target.format(outside=outside), "data")

    return change


def external_storage(file, outside):
    replaced(
        file, f"{DFF}/data", shape=(N_SAMPLES, N_ROIS), dtype="f4",
        external=[(str(outside / "secret.raw"), 0, h5py.h5f.UNLIMITED)],
    )  # fmt: skip


def virtual(file, outside):
    layout = h5py.VirtualLayout((N_SAMPLES, N_ROIS), "f4")
    layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "data", (N_SAMPLES, N_ROIS))
    attributes = dict(file[f"{DFF}/data"].attrs)
    del file[f"{DFF}/data"]
    file.create_virtual_dataset(f"{DFF}/data", layout)
    file[f"{DFF}/data"].attrs.update(attributes)


def behind_a_symlink(file, outside):
    (Path(file.filename).parent / "near.h5").symlink_to(outside / "secret.h5")
    external("near.h5")(file, outside)


def two_steps(file, outside):
    with h5py.File(Path(file.filename).parent / "step.h5", "w") as step:
        step["data"] = h5py.ExternalLink(str(outside / "secret.h5"), "data")
    external("step.h5")(file, outside)


def external_group(file, outside):
    file["acquisition/more"] = h5py.ExternalLink(str(outside / "mouse.nwb"), "/acquisition/running_speed")


LINKS = {
    "absolute": (external("{outside}/secret.h5"), "outside the folder"),
    "relative": (external("../outside/secret.h5"), "outside the folder"),
    "winding": (external("./a/../../outside/secret.h5"), "outside the folder|there is no"),
    "symlink": (behind_a_symlink, "outside the folder"),
    "two steps": (two_steps, "outside the folder"),
    "group": (external_group, "outside the folder"),
    "storage": (external_storage, "outside the folder"),
    "virtual": (virtual, "outside the folder"),
}


@pytest.mark.parametrize(("change", "words"), LINKS.values(), ids=LINKS)
def test_nothing_is_read_outside_the_folder(change, words, sound, tmp_path):
    inner, outside = tmp_path / "inner", tmp_path / "outside"
    inner.mkdir()
    shutil.copytree(sound.parent, outside)
    path = Path(shutil.copy(sound, inner / "mouse.nwb"))
    with h5py.File(path, "a") as file:
        change(file, outside)
    outcome = outcome_of(path)
    assert outcome.error in ("SourceError", "SessionError"), outcome
    assert_matches(words, outcome.message)
    assert outcome.greatest != SECRET


def test_a_link_to_a_file_beside_it_is_followed(sound, tmp_path):
    path = Path(shutil.copy(sound, tmp_path / "mouse.nwb"))
    with h5py.File(path, "a") as file:
        values = file[f"{DFF}/data"][:]
        attributes = dict(file[f"{DFF}/data"].attrs)
        with h5py.File(tmp_path / "beside.h5", "w") as beside:
            beside["data"] = values
            beside["data"].attrs.update(attributes)
        external("beside.h5")(file, tmp_path)
    outcome = outcome_of(path)
    assert outcome.error == "", outcome.message
    assert outcome.rois == N_ROIS


# within the file: (what to do, error and its words, or "" and words of a warning)


def put(name, values):
    return lambda file: replaced(file, name, data=values)


def change(name, rows, values):
    def put_in(file):
        data = file[name][:]
        data[rows] = values
        replaced(file, name, data=data)

    return put_in


def attribute(name, key, value):
    return lambda file: file[name].attrs.__setitem__(key, value)


def removed(name):
    return lambda file: file.__delitem__(name)


def soft_to(name, target):
    def link(file):
        del file[name]
        file[name] = h5py.SoftLink(target)

    return link


def circle(file):
    file["acquisition/a"] = h5py.SoftLink("/acquisition/b")
    file["acquisition/b"] = h5py.SoftLink("/acquisition/a")


def group_within_itself(file):
    file["processing/ophys/DfOverF/again"] = file["processing/ophys/DfOverF"]


def spoiled_chunk(file):
    values = file[f"{DFF}/data"][:]
    replaced(file, f"{DFF}/data", data=values, chunks=(50, N_ROIS), compression="gzip", fletcher32=True)
    file[f"{DFF}/data"].id.write_direct_chunk((50, 0), b"no gzip" * 20)


def spoiled_specification(file):
    for namespace in file["specifications"].values():
        for version in namespace.values():
            name = next(iter(version))
            del version[name]
            version[name] = "{not: json"


def renamed(name):
    def rename(file):
        names = np.array([name.format(k) for k in range(N_CLIPS)], dtype=object)
        replaced(file, f"{TRIALS}/clip", data=names, dtype=h5py.string_dtype())

    return rename


TIMES = 1 + np.arange(N_SAMPLES) / 10
STAMPS = np.concatenate([3.0 + 2 * k + np.arange(N_FRAMES) / 30 for k in range(N_CLIPS)])
HUGE = 10**12

CASES = {
    "a soft link to nowhere": (soft_to(f"{DFF}/timestamps", "/nowhere"), "SourceError", "pynwb cannot read it"),
    "data that leads nowhere": (soft_to(f"{DFF}/data", "/nowhere"), "Error", ""),
    "soft links in a circle": (circle, "SourceError", "pynwb cannot read it"),
    "a group within itself": (group_within_itself, None, ""),
    "a chunk that cannot be read": (spoiled_chunk, "Error", "cannot be read|damaged"),
    "a specification that is no JSON": (spoiled_specification, None, ""),
    "no time zero": (removed("session_start_time"), "SourceError", "pynwb cannot read it"),
    "no type": (lambda file: file[DFF].attrs.__delitem__("neurodata_type"), "SessionError", "no responses"),
    "a type that nobody knows": (attribute(DFF, "neurodata_type", "Unheard"), "Error", ""),
    "no namespace": (lambda file: file[DFF].attrs.__delitem__("namespace"), None, ""),
    # sizes
    "a clock that claims terabytes": (lambda f: claimed(f, f"{DFF}/timestamps", (HUGE,)), "Error", "claims"),
    "responses that claim terabytes": (
        lambda f: (with_rate(f, DFF, 10.0), claimed(f, f"{DFF}/data", (HUGE, N_ROIS), "f4")), "Error", "claims",
    ),
    "ROIs by the billion": (lambda f: claimed(f, f"{DFF}/rois", (HUGE,), "i4"), "Error", "claims"),
    "a table of ROIs by the billion": (lambda f: claimed(f, f"{TABLE}/id", (HUGE,), "i8"), "Error", "claims"),
    "frames as large as a town": (
        lambda f: claimed(f, f"{MOVIE}/data", (N_CLIPS * N_FRAMES, 10**6, 10**6), "u1"), "Error", "claims",
    ),
    "a movie's clock that claims terabytes": (
        lambda f: claimed(f, f"{MOVIE}/timestamps", (HUGE,)), "Error", "claims",
    ),
    "a movie that claims terabytes": (
        lambda f: (with_rate(f, MOVIE, 30.0), claimed(f, f"{MOVIE}/data", (HUGE, 12, 20), "u1")),
        "Error", "claims",
    ),
    "trials by the billion": (
        lambda f: [claimed(f, f"{TRIALS}/{n}", (HUGE,)) for n in ("id", "start_time", "stop_time")],
        "Error", "claims",
    ),
    "running that claims gigabytes": (lambda f: claimed(f, f"{SPEED}/data", (2**27 + 1,), "f4"), "", "speed claims"),
    # clocks
    "a clock that is no number": (put(f"{DFF}/timestamps", np.full(N_SAMPLES, np.nan)), "", "imaging rate"),
    "a clock that runs backward": (put(f"{DFF}/timestamps", TIMES[::-1].copy()), "SessionError", ""),
    "a clock that stands": (put(f"{DFF}/timestamps", np.full(N_SAMPLES, 5.0)), "SessionError", ""),
    "a clock that stumbles": (change(f"{DFF}/timestamps", [20, 90], [np.nan, -4.0]), "", "NaN or out of order"),
    "a clock to infinity": (change(f"{DFF}/timestamps", [-1, -2], np.inf), "", "NaN or out of order"),
    "a clock in another age": (put(f"{DFF}/timestamps", TIMES + 1e15), "AlignmentError|SessionError", ""),
    "too few data": (put(f"{DFF}/data", np.random.default_rng(0).random((150, N_ROIS))), "", "150 samples and 200"),
    "too many data": (put(f"{DFF}/data", np.random.default_rng(0).random((260, N_ROIS))), "", "260 samples and 200"),
    "a rate of zero": (lambda f: with_rate(f, DFF, 0.0), "", "imaging rate"),
    "a negative rate": (lambda f: with_rate(f, DFF, -10.0), "", "imaging rate"),
    "an infinite rate": (lambda f: with_rate(f, DFF, np.inf), "", "imaging rate"),
    "an absurd rate": (lambda f: with_rate(f, DFF, 1e12), "AlignmentError", ""),
    "a rate of once a year": (lambda f: with_rate(f, DFF, 3e-8), "AlignmentError", ""),
    "a start that is no number": (lambda f: with_rate(f, DFF, 10.0, np.nan), None, ""),
    "frames at no time": (put(f"{MOVIE}/timestamps", np.full(len(STAMPS), np.nan)), "SessionError", "no stimulus"),
    "frames in disorder": (change(f"{MOVIE}/timestamps", [10, 100], [500.0, 0.0]), "", "NaN or out of order"),
    "frames all at once": (put(f"{MOVIE}/timestamps", np.full(len(STAMPS), 3.0)), "SessionError", ""),
    "too few frames": (put(f"{MOVIE}/data", np.concatenate([clip_frames(k, 30) for k in range(6)])), "", "240 time"),
    "frames at an absurd rate": (lambda f: with_rate(f, MOVIE, 1e9), "Error", ""),
    "running backward in time": (put(f"{SPEED}/timestamps", (0.5 + np.arange(1000) / 50)[::-1].copy()), "", "bad time"),
    # values
    "an ROI of NaN": (change(f"{DFF}/data", (slice(None), 1), np.nan), "", "1 of 4 ROIs"),
    "a silent ROI": (change(f"{DFF}/data", (slice(None), 2), 3.0), "", "1 of 4 ROIs"),
    "nothing but NaN": (put(f"{DFF}/data", np.full((N_SAMPLES, N_ROIS), np.nan, "f4")), "AlignmentError", "None of"),
    "nothing but zero": (put(f"{DFF}/data", np.zeros((N_SAMPLES, N_ROIS), "f4")), "AlignmentError", "None of"),
    "infinities": (change(f"{DFF}/data", ([20, 90], [0, 1]), [np.inf, -np.inf]), "", ""),
    "a scale of zero": (attribute(f"{DFF}/data", "conversion", 0.0), "AlignmentError", "None of"),
    "a scale that is no number": (attribute(f"{DFF}/data", "conversion", np.nan), None, ""),
    "responses in words": (
        put(f"{DFF}/data", np.full((N_SAMPLES, N_ROIS), "loud", dtype=h5py.string_dtype())), "Error", "",
    ),
    "complex responses": (put(f"{DFF}/data", np.ones((N_SAMPLES, N_ROIS), complex)), "Error", ""),
    "responses of four dimensions": (put(f"{DFF}/data", np.ones((N_SAMPLES, N_ROIS, 2, 2))), "Error", ""),
    "one number for all": (put(f"{DFF}/data", 3.0), "Error", ""),
    "no ROIs": (
        lambda f: (put(f"{DFF}/data", np.ones((N_SAMPLES, 0)))(f), put(f"{DFF}/rois", np.zeros(0, int))(f)),
        "SessionError", "",
    ),
    "ROIs that do not exist": (put(f"{DFF}/rois", np.array([0, 1, 2, 99])), "SessionError", ""),
    "ROIs before the first": (put(f"{DFF}/rois", np.array([0, 1, 2, -5])), "SessionError", ""),
    "no frames": (put(f"{MOVIE}/data", np.zeros((0, 12, 20), "u1")), "SessionError", "no stimulus"),
    "flat frames": (put(f"{MOVIE}/data", np.zeros((len(STAMPS), 12), "u1")), "Error", ""),
    "frames of NaN": (put(f"{MOVIE}/data", np.full((len(STAMPS), 12, 20), np.nan)), None, ""),
    "frames in words": (
        put(f"{MOVIE}/data", np.full((len(STAMPS), 2, 2), "x", dtype=h5py.string_dtype())), "Error", "",
    ),
    "trials that end before they begin": (change(f"{TRIALS}/stop_time", slice(0, 4), 0.0), "", ""),
    "trials of unequal columns": (put(f"{TRIALS}/clip", np.array(["a", "b"], dtype=h5py.string_dtype())), None, ""),
    "clips in many scripts": (renamed("клип {} 🐭 ñ"), "", ""),
    "clips that climb": (renamed("../../{}/etc/passwd"), "", ""),
    "clips of a megabyte": (renamed("a" * 1_000_000 + "{}"), "", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_within_a_file_is_said(name, sound, tmp_path):
    harm, error, words = CASES[name]
    path = Path(shutil.copy(sound, tmp_path / "mouse.nwb"))
    with h5py.File(path, "a") as file:
        harm(file)
    outcome = outcome_of(path)
    assert not outcome.error.startswith("not a"), outcome.message
    if error is not None:
        assert bool(outcome.error) == bool(error), outcome
        assert_matches(error, outcome.error)
    assert_matches(words, outcome.message or outcome.said)
    if not outcome.error:
        assert outcome.trials > 0
        assert np.isfinite(outcome.greatest)


def test_the_sound_file_is_sound(sound):
    outcome = outcome_of(sound)
    assert (outcome.error, outcome.rois, outcome.trials) == ("", N_ROIS, N_CLIPS)
    assert outcome.clips == [f"c{k}" for k in range(N_CLIPS)]
    assert outcome.behavior == ("running_speed",)
    assert "running_speed" not in outcome.said


def test_there_are_enough_of_them():
    assert len(FILES) + len(LINKS) + len(CASES) >= 40
