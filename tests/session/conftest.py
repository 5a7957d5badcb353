"""NWB files laid out as in the wild, with the truth beside them.

They are written through pynwb; what pynwb refuses to write but archives hold (a colon in a name,
``indexed_timeseries``, a rate of NaN) is put in through h5py afterwards.
"""

import datetime
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.behavior import BehavioralTimeSeries, EyeTracking, PupilTracking, SpatialSeries
from pynwb.file import Subject
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries, TwoPhotonSeries

START = datetime.datetime(2018, 3, 4, 12, tzinfo=datetime.UTC)


def new_file(session_id="4-scan-7"):
    nwb = NWBFile("a mouse watches movies", f"id-{session_id}", START, session_id=session_id)
    nwb.subject = Subject(subject_id="17797", species="Mus musculus", sex="M", age="P75D")
    return nwb


def write(nwb, path):
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def add_plane(nwb, number, n_rois, rate, location="VISp", masks="image_mask"):
    device = nwb.devices.get("scope") or nwb.create_device(name="scope")
    plane = nwb.create_imaging_plane(
        name=f"ImagingPlane{number}",
        optical_channel=OpticalChannel(name="green", description="green", emission_lambda=510.0),
        description=f"field {number}, depth {100 + 50 * number} microns",
        device=device,
        excitation_lambda=920.0,
        imaging_rate=rate,
        indicator="GCaMP6s",
        location=location,
    )
    if "ophys" not in nwb.processing:
        nwb.create_processing_module("ophys", "optical physiology").add(ImageSegmentation())
    table = nwb.processing["ophys"]["ImageSegmentation"].create_plane_segmentation(
        name=f"PlaneSegmentation{number}", description="ROIs", imaging_plane=plane
    )
    for roi in range(n_rois):
        mask = np.zeros((16, 16), dtype=np.float32)
        mask[roi % 16, roi // 16 % 16] = 1
        keywords = {"image_mask": mask} if masks == "image_mask" else {"pixel_mask": [(roi % 16, 1, 1.0)]}
        table.add_roi(id=1000 * number + roi, **keywords)
    return table


def region(table, rows=None):
    rows = list(range(len(table))) if rows is None else list(rows)
    return table.create_roi_table_region(region=rows, description="ROIs")


def clip_frames(clip, n_frames, height=12, width=20):
    """A clip of its own for each number: noise that drifts, with all frames different."""
    base = np.random.default_rng(clip).integers(0, 256, (height, width + n_frames), dtype=np.uint8)
    return np.stack([base[:, k : k + width] for k in range(n_frames)])


@pytest.fixture(scope="session")
def microns(tmp_path_factory):
    """Laid out as dandiset 000402: several fields, a colon in a name, raw fluorescence, one stitched color movie."""
    rng = np.random.default_rng(1)
    truth = SimpleNamespace(path=tmp_path_factory.mktemp("microns") / "sub-17797_ses-4-scan-7_behavior+image+ophys.nwb")
    nwb = new_file()
    flip, n_frames, blank = 1 / 60, 90, 30
    order = [("Clip", 1), ("Clip", 2), ("Monet2", 3), ("Clip", 1), ("Trippy", 4), ("Clip", 5), ("Clip", 1)]
    frames, times, rows, now = [], [], [], 5.0
    for kind, clip in order:
        movie = clip_frames(clip, n_frames)
        frames += [np.full((blank, *movie.shape[1:]), 127, np.uint8), movie]
        stamps = now + np.arange(blank + n_frames) * flip
        times.append(stamps)
        rows.append((kind, clip, stamps[blank], stamps[-1] + flip))
        now = stamps[-1] + flip
    video, truth.video_times = np.concatenate(frames), np.concatenate(times)
    truth.rows, truth.n_frames = rows, n_frames
    nwb.add_acquisition(
        ImageSeries(
            name="Video",
            data=np.repeat(video[..., None], 3, axis=-1),
            unit="Frames",
            timestamps=truth.video_times,
        )
    )
    for kind in ("Clip", "Monet2", "Trippy"):
        table = nwb.create_time_intervals(name=kind, description=kind)
        table.add_column(name="stimulus_type", description="type")
        table.add_column(name="condition_hash", description="equal for repeats")
        if kind == "Clip":
            table.add_column(name="movie_name", description="film")
            table.add_column(name="short_movie_name", description="kind of film")
        for row_kind, clip, start, stop in rows:
            if row_kind == kind:
                more = {"movie_name": f"film {clip % 2}", "short_movie_name": "cinematic"} if kind == "Clip" else {}
                table.add_row(
                    start_time=start,
                    stop_time=stop,
                    stimulus_type=f"stimulus.{kind}",
                    condition_hash=f"hash{clip}",
                    **more,
                )
    for number, (n_rois, _) in enumerate(sizes := [(7, 100), (5, 100), (6, 99)], start=1):
        add_plane(nwb, number, n_rois, np.nan, location="VISp,VISrl,VISlm,VISal")
    nwb.processing["ophys"].add(fluorescence := Fluorescence())
    truth.fluorescence, truth.sample_times, truth.soma = {}, {}, {}
    for number, (n_rois, n_samples) in enumerate(sizes, start=1):
        table = nwb.processing["ophys"]["ImageSegmentation"][f"PlaneSegmentation{number}"]
        kinds = np.array(["soma"] * n_rois, dtype=object)
        kinds[1] = "artifact"
        table.add_column(name="mask_type", description="soma or artifact", data=list(kinds))
        data = rng.normal(500, 20, (n_samples, n_rois)).astype(np.float32)
        stamps = 4.0 + np.arange(n_samples) / 6.3
        fluorescence.add_roi_response_series(
            RoiResponseSeries(
                name=f"RoiResponseSeries{number}", data=data, rois=region(table), unit="n.a.", timestamps=stamps
            )
        )
        truth.fluorescence[f"ImagingPlane{number}"] = data
        truth.sample_times[f"ImagingPlane{number}"] = stamps
        truth.soma[f"ImagingPlane{number}"] = np.flatnonzero(kinds == "soma")
        nwb.add_acquisition(
            TwoPhotonSeries(
                name=f"TwoPhotonSeries{number}",
                data=np.zeros((n_samples, 4, 4), np.int16),
                imaging_plane=nwb.imaging_planes[f"ImagingPlane{number}"],
                unit="n.a.",
                timestamps=stamps,
            )
        )
    truth.eye_times = np.arange(400) / 20 + 3
    truth.minor, truth.major = 20 + rng.random(400), 22 + rng.random(400)
    truth.minor[50:60] = np.nan
    minor = TimeSeries(name="pupil_minor_radius", data=truth.minor, unit="px", timestamps=truth.eye_times)
    major = TimeSeries(name="pupil_major_radius", data=truth.major, unit="px", timestamps=minor)
    truth.gaze = rng.normal(100, 5, (400, 2))
    position = SpatialSeries(
        name="eye_position", data=truth.gaze, unit="px", timestamps=minor, reference_frame="the camera's corner"
    )
    nwb.add_acquisition(PupilTracking(time_series=[minor, major], name="PupilTracking"))
    nwb.add_acquisition(EyeTracking(spatial_series=position, name="EyeTracking"))
    truth.speed = rng.normal(0, 10, 900)
    truth.speed_times = 3 + np.cumsum(rng.uniform(0.01, 0.03, 900))
    nwb.add_acquisition(
        TimeSeries(
            name="treadmill_velocity", data=truth.speed, unit="m/s", conversion=0.01, timestamps=truth.speed_times
        )
    )
    nwb.add_acquisition(
        ImageSeries(name="eye_camera", data=np.zeros((400, 6, 8), np.uint8), unit="n.a.", timestamps=truth.eye_times)
    )
    write(nwb, truth.path)
    with h5py.File(truth.path, "a") as file:
        file.move("acquisition/Video", "acquisition/Video: stimulus_17797_4_7_v4")
    return truth


@pytest.fixture(scope="session")
def visual_coding(tmp_path_factory):
    """Laid out as dandiset 000728: one plane, five signals of the same cells, templates without a clock, indices."""
    rng = np.random.default_rng(2)
    truth = SimpleNamespace(path=tmp_path_factory.mktemp("allen") / "sub-1_ses-2-StimA_behavior+image+ophys.nwb")
    nwb = new_file("2-StimA")
    n_rois, n_samples = 6, 1500
    table = add_plane(nwb, 1, n_rois, 30.0, masks="pixel_mask")
    table.add_column(name="global_roi_id", description="id across sessions", data=list(range(70, 70 + n_rois)))
    truth.times = 10 + np.arange(n_samples) / 30
    truth.signals = {
        name: rng.normal(level, 1, (n_samples, n_rois)).astype(np.float32)
        for name, level in [("Corrected", 300), ("Neuropil", 100), ("Demixed", 350), ("DfOverF", 0)]
    }
    truth.signals["DfOverFEvents"] = rng.poisson(0.1, (n_samples, n_rois)).astype(np.float32)
    series = {}
    ophys = nwb.processing["ophys"]
    ophys.add(Fluorescence())
    ophys.add(DfOverF())
    for name, data in truth.signals.items():
        clock = truth.times if name == "Corrected" else series["Corrected"]
        unit = "a.u." if name == "DfOverFEvents" else "n.a."
        series[name] = RoiResponseSeries(name=name, data=data, rois=region(table), unit=unit, timestamps=clock)
        ophys["DfOverF" if name.startswith("DfOverF") else "Fluorescence"].add_roi_response_series(series[name])

    truth.movie = clip_frames(1, 60)
    template = ImageSeries(name="natural_movie_one", data=truth.movie, unit="n.a.", rate=30.0, starting_time=0.0)
    nwb.add_stimulus_template(template)
    one_showing = np.arange(60) / 30
    truth.onsets = np.array([*(12 + 2 * np.arange(5)), *(30 + 2 * np.arange(5))])
    stamps = np.concatenate([start + one_showing for start in truth.onsets])
    nwb.add_stimulus(
        TimeSeries(
            name="natural_movie_one_stimulus",
            data=np.tile(np.arange(60, dtype=np.uint32), 10),
            unit="N/A",
            timestamps=stamps,
        )
    )
    truth.scenes = [np.random.default_rng(k).integers(0, 255, (12, 20), dtype=np.uint8) for k in range(4)]
    images = [GrayscaleImage(name=f"scene_{k}", data=truth.scenes[k]) for k in (2, 0, 3, 1)]
    ordered = ImageReferences(name="order_of_images", data=[images[1], images[3], images[0], images[2]])
    scenes = Images(name="natural_scenes", images=images, order_of_images=ordered)
    nwb.add_stimulus_template(scenes)
    truth.scene_order = np.array([3, 1, 0, 2, 1, 3])
    nwb.add_stimulus(
        IndexSeries(
            name="natural_scenes_stimulus",
            data=truth.scene_order.astype(np.uint32),
            unit="N/A",
            indexed_images=scenes,
            timestamps=50 + 0.25 * np.arange(6),
        )
    )
    truth.speed = rng.normal(5, 2, n_samples)
    behavior = nwb.create_processing_module("behavior", "behavior")
    running = TimeSeries(name="running_speed", data=truth.speed, unit="cm/s", timestamps=series["Corrected"])
    behavior.add(BehavioralTimeSeries(time_series=running))
    write(nwb, truth.path)
    with h5py.File(truth.path, "a") as file:
        clock = file["stimulus/templates/natural_movie_one/starting_time"]
        clock[()] = np.nan
        clock.attrs["rate"] = np.nan
        shown = file["stimulus/presentation/natural_movie_one_stimulus"]
        shown.attrs["neurodata_type"] = "IndexSeries"
        shown["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/natural_movie_one")
    return truth


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """What a lab writes by hand: dF/F with a rate, a movie as stimulus, trials with clip names and a split."""
    rng = np.random.default_rng(3)
    truth = SimpleNamespace(path=tmp_path_factory.mktemp("plain") / "tuesday.nwb")
    nwb = new_file("tuesday")
    table = add_plane(nwb, 1, 5, 15.0)
    truth.dff = rng.normal(0.05, 0.2, (900, 5)).astype(np.float32)
    nwb.processing["ophys"].add(container := DfOverF())
    container.add_roi_response_series(
        RoiResponseSeries(name="dff", data=truth.dff, rois=region(table), unit="a.u.", rate=15.0, starting_time=2.5)
    )
    truth.clips = [7, 8, 7, 9]
    truth.movie = np.concatenate([clip_frames(clip, 60) for clip in truth.clips])
    nwb.add_stimulus(
        ImageSeries(name="movie", data=truth.movie / np.float32(255), unit="n.a.", rate=30.0, starting_time=10.0)
    )
    nwb.add_trial_column(name="clip", description="name of the clip")
    nwb.add_trial_column(name="split", description="train or test")
    for number, clip in enumerate(truth.clips):
        split = "oracle" if clip == 7 else "train"
        nwb.add_trial(start_time=10.0 + 2 * number, stop_time=12.0 + 2 * number, clip=f"clip_{clip}", split=split)
    write(nwb, truth.path)
    return truth


@pytest.fixture(scope="session")
def openscope(tmp_path_factory):
    """Laid out as dandiset 000871: a file a plane, templates with the frames last, a row a monitor flip."""
    rng = np.random.default_rng(4)
    truth = SimpleNamespace(folder=tmp_path_factory.mktemp("openscope"), dff={}, times={})
    truth.movie = clip_frames(1, 30)
    for plane in (1245937736, 1245937740):
        nwb = new_file(f"1245548523-acq-{plane}")
        table = add_plane(nwb, 1, 4, 10.0)
        table.add_column(name="valid_roi", description="cell", data=[True, True, False, True])
        truth.times[plane] = np.arange(300) / 10 + (0.05 if plane == 1245937740 else 0)
        truth.dff[plane] = rng.normal(0, 0.1, (300, 4))
        ophys = nwb.processing["ophys"]
        for name in ("dff", "corrected_fluorescence", "neuropil_trace"):
            container = DfOverF(name=name) if name == "dff" else Fluorescence(name=name)
            ophys.add(container)
            data = truth.dff[plane] if name == "dff" else rng.normal(100, 1, (300, 4))
            container.add_roi_response_series(
                RoiResponseSeries(
                    name="traces", data=data, rois=region(table), unit="NA", timestamps=truth.times[plane]
                )
            )
        nwb.add_stimulus_template(
            ImageSeries(name="worms_fwd", data=truth.movie, unit="NA", timestamps=np.arange(30.0))
        )
        shown = nwb.create_time_intervals(name="movie_worms_fwd_presentations", description="flips")
        for name in ("stimulus_name", "frame", "stimulus_block"):
            shown.add_column(name=name, description=name)
        truth.onsets = np.array([3.0, 4.0, 10.0])
        for block, onset in enumerate(truth.onsets):
            for flip in range(60):
                shown.add_row(
                    start_time=onset + flip / 60,
                    stop_time=onset + (flip + 1) / 60,
                    stimulus_name="movie_worms_fwd",
                    frame=float(flip // 2),
                    stimulus_block=float(block),
                )
        running = nwb.create_processing_module("running", "running")
        running.add(TimeSeries(name="speed_unfiltered", data=np.zeros(600), unit="cm/s", rate=20.0, starting_time=0.0))
        running.add(TimeSeries(name="speed", data=np.full(600, 7.0), unit="cm/s", rate=20.0, starting_time=0.0))
        running.add(TimeSeries(name="dx", data=np.zeros(600), unit="cm", rate=20.0, starting_time=0.0))
        path = write(nwb, truth.folder / f"sub-656228_ses-1245548523-acq-{plane}_image+ophys.nwb")
        with h5py.File(path, "a") as file:
            template = file["stimulus/templates/worms_fwd"]
            attributes = dict(template["data"].attrs)
            del template["data"]
            template["data"] = truth.movie.transpose(2, 1, 0)
            template["data"].attrs.update(attributes)
    return truth


def add_dff(nwb, data, table, name="dff", container="DfOverF", **clock):
    """A response series in memory or on its way to a file."""
    ophys = nwb.processing["ophys"]
    if container not in ophys.data_interfaces:
        ophys.add(Fluorescence(name=container) if "luor" in container else DfOverF(name=container))
    clock = clock or {"rate": 10.0, "starting_time": 0.0}
    series = RoiResponseSeries(name=name, data=data, rois=region(table), unit="a.u.", **clock)
    ophys[container].add_roi_response_series(series)
    return series


def with_responses(nwb, n_samples=400, n_rois=3):
    table = add_plane(nwb, 1, n_rois, 10.0)
    add_dff(nwb, np.zeros((n_samples, n_rois)), table)
    return nwb


def with_movie(nwb, n_frames=60):
    movie = clip_frames(0, n_frames)
    nwb.add_stimulus(ImageSeries(name="movie", data=movie, unit="n.a.", rate=30.0, starting_time=1.0))
    return nwb
