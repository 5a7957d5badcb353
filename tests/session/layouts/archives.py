"""Writers of small recordings laid out as archives have them, each with the truth.

What pynwb refuses to write but archives hold (a colon in a name, ``indexed_timeseries``, a rate of NaN) is put in
through h5py afterwards.
"""

import h5py
import numpy as np
from hdmf.common import DynamicTable, VectorData
from pynwb import TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.behavior import (
    BehavioralTimeSeries,
    CompassDirection,
    EyeTracking,
    PupilTracking,
    SpatialSeries,
)  # fmt: skip
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, RoiResponseSeries, TwoPhotonSeries

from ..conftest import add_plane, new_file, region, write
from . import openscope
from .truth import Plane, Truth, clip, trace, traces

FLIP = 1 / 60


def spatial(name, data, unit, **clock):
    return SpatialSeries(name=name, data=data, unit=unit, reference_frame="the camera's corner", **clock)


def microns(folder, *, own_clocks):
    """000402: fields of raw fluorescence, one color movie of the session in acquisition, tables of kinds of clip."""
    nwb = new_file("4-scan-7")
    order = [("Clip", 1), ("Monet2", 2), ("Clip", 3), ("Clip", 1), ("Trippy", 4), ("Clip", 5), ("Clip", 3)]
    order += [("Clip", 6), ("Clip", 7), ("Clip", 1)]
    blank, pieces, shown, now = np.full((20, 12, 20), 127, np.uint8), [], [], 5.0
    for _, number in order:
        frames = clip(number, 90)
        start = now + 20 * FLIP
        pieces += [blank, frames]
        now = start + 90 * FLIP
        shown.append((start, now, frames))
    video = np.concatenate(pieces)
    stamps = 5.0 + np.arange(len(video)) * FLIP
    nwb.add_acquisition(
        ImageSeries(name="Video", data=np.repeat(video[..., None], 3, -1), unit="Frames", timestamps=stamps)
    )
    for kind in ("Clip", "Monet2", "Trippy"):
        table = nwb.create_time_intervals(name=kind, description=kind)
        columns = ["stimulus_type", "condition_hash", "duration"]
        columns += ["movie_name", "short_movie_name"] if kind == "Clip" else ["rng_seed"]
        for column in columns:
            table.add_column(name=column, description=column)
        for (one, number), (start, stop, _) in zip(order, shown, strict=True):
            values = (f"stimulus.{kind}", f"hash{number}", stop - start, f"film{number}", "cinematic")
            if one == kind:
                values = values if kind == "Clip" else (*values[:3], number)
                table.add_row(start_time=start, stop_time=stop, **dict(zip(columns, values, strict=True)))
    planes = {}
    sizes = {1: (5, 160), 2: (4, 160), 3: (6, 159)}
    for number, (n_rois, _) in sizes.items():
        add_plane(nwb, number, n_rois, np.nan, location="VISp,VISrl,VISlm,VISal")
    ophys = nwb.processing["ophys"]
    ophys.add(Fluorescence())
    for number, (n_rois, n_samples) in sizes.items():
        table = ophys["ImageSegmentation"][f"PlaneSegmentation{number}"]
        cells = np.arange(n_rois) != 1
        types = ["soma" if cell else "artifact" for cell in cells]
        table.add_column(name="mask_type", description="soma or artifact", data=types)
        times = 4.0 + np.arange(n_samples) / 6.3 + own_clocks * (number - 1) / 6.3 / 3
        data = 500 + 20 * traces(number, n_samples, n_rois)
        name = f"RoiResponseSeries{number}"
        ophys["Fluorescence"].add_roi_response_series(
            RoiResponseSeries(name=name, data=data, rois=region(table), unit="n.a.", timestamps=times)
        )
        path = f"processing/ophys/Fluorescence/{name}"
        planes[f"ImagingPlane{number}"] = Plane(path, "raw fluorescence", times, data[:, cells])
        nwb.add_acquisition(
            TwoPhotonSeries(
                name=f"TwoPhotonSeries{number}", data=np.zeros((n_samples, 4, 4), np.int16), timestamps=times,
                imaging_plane=nwb.imaging_planes[f"ImagingPlane{number}"], unit="n.a.",
            )
        )  # fmt: skip
    eye = 3 + np.arange(560) / 20
    minor, major = trace(1, 560), trace(2, 560)
    minor[50:60] = np.nan
    one = TimeSeries(name="pupil_minor_radius", data=minor, unit="px", timestamps=eye)
    other = TimeSeries(name="pupil_major_radius", data=major, unit="px", timestamps=one)
    gaze = np.stack([trace(3, 560), trace(4, 560)], axis=1)
    nwb.add_acquisition(PupilTracking(time_series=[one, other]))
    nwb.add_acquisition(EyeTracking(spatial_series=spatial("eye_position", gaze, "px", timestamps=one)))
    running = 3 + np.cumsum(np.random.default_rng(0).uniform(0.01, 0.03, 1300))
    speed = trace(5, 1300, -5, 30)
    nwb.add_acquisition(
        TimeSeries(name="treadmill_velocity", data=speed, unit="m/s", conversion=0.01, timestamps=running)
    )
    path = write(nwb, folder / "sub-17797_ses-4-scan-7_behavior+image+ophys.nwb")
    with h5py.File(path, "a") as file:
        file.move("acquisition/Video", "acquisition/Video: stimulus_17797_4_7_v4")
    behavior = {
        "running_speed": (running, speed, "cm/s"),
        "pupil_size": (eye, np.sqrt(minor * major), "px"),
        "gaze_x": (eye, gaze[:, 0], "px"),
        "gaze_y": (eye, gaze[:, 1], "px"),
    }
    said = ("was taken to be the stimulus by its name",)
    return Truth(path, planes, shown, behavior, said=said, rate=60.0)


def visual_coding(folder, *, restacked):
    """000728: five signals of the same cells, templates without a clock, indices; scenes are Images, or restacked."""
    nwb = new_file("2-StimA")
    table = add_plane(nwb, 1, 5, 30.0, masks="pixel_mask")
    table.add_column(name="global_roi_id", description="across sessions", data=list(range(70, 75)))
    times = 2 + np.arange(1300) / 30
    ophys = nwb.processing["ophys"]
    ophys.add(Fluorescence())
    ophys.add(DfOverF())
    series = {}
    for number, name in enumerate(("Corrected", "Neuropil", "Demixed", "DfOverF", "DfOverFEvents")):
        clock = times if name == "Corrected" else series["Corrected"]
        series[name] = RoiResponseSeries(
            name=name, data=traces(number, 1300, 5), rois=region(table), unit="n.a.", timestamps=clock
        )
        ophys["DfOverF" if name.startswith("DfOverF") else "Fluorescence"].add_roi_response_series(series[name])

    shown = []
    for name, frames, blocks in (
        ("natural_movie_one", clip(1), [3.0, 30.0]),
        ("natural_movie_three", clip(2, 90), [12.0, 38.0]),
    ):
        nwb.add_stimulus_template(ImageSeries(name=name, data=frames, unit="n.a.", rate=30.0, starting_time=0.0))
        # a block is the movie twice without a pause
        onsets = [block + k * len(frames) / 30 for block in blocks for k in (0, 1)]
        shown += [(onset, onset + len(frames) / 30, frames) for onset in onsets]
        stamps = np.concatenate([onset + np.arange(len(frames)) / 30 for onset in onsets])
        index = np.tile(np.arange(len(frames), dtype=np.uint32), len(onsets))
        nwb.add_stimulus(TimeSeries(name=f"{name}_stimulus", data=index, unit="N/A", timestamps=stamps))
    scenes = clip(3, 4)
    order = np.array([3, 1, 0, 2, 1, 3])
    stamps = 25 + 0.25 * np.arange(6)
    shown += [(start, start + 0.25, scenes[[place]]) for start, place in zip(stamps, order, strict=True)]
    if restacked:
        nwb.add_stimulus_template(
            ImageSeries(name="natural_scenes", data=scenes, unit="n.a.", rate=1.0, starting_time=0.0)
        )
        nwb.add_stimulus(
            TimeSeries(name="natural_scenes_stimulus", data=order.astype(np.uint32), unit="N/A", timestamps=stamps)
        )
    else:
        images = [GrayscaleImage(name=f"scene_{k}", data=scenes[k]) for k in (2, 0, 3, 1)]
        ordered = ImageReferences(name="order_of_images", data=[images[k] for k in (1, 3, 0, 2)])
        stack = Images(name="natural_scenes", images=images, order_of_images=ordered)
        nwb.add_stimulus_template(stack)
        nwb.add_stimulus(
            IndexSeries(
                name="natural_scenes_stimulus", data=order.astype(np.uint32), unit="N/A", indexed_images=stack,
                timestamps=stamps,
            )
        )  # fmt: skip
    gratings = TimeIntervals(name="static_gratings", description="gratings")
    gratings.add_column(name="orientation", description="degrees")
    for number in range(3):
        gratings.add_row(start_time=20 + 0.25 * number, stop_time=20.25 + 0.25 * number, orientation=30.0 * number)
    nwb.add_stimulus(gratings)

    behavior = nwb.create_processing_module("behavior", "behavior")
    speed, size = trace(1, 1300), trace(2, 1300)
    meters, degrees = np.stack([trace(3, 1300)] * 2, 1), np.stack([trace(4, 1300), trace(5, 1300)], 1)
    clock = {"timestamps": series["Corrected"]}
    running = TimeSeries(name="running_speed", data=speed, unit="cm/s", **clock)
    behavior.add(BehavioralTimeSeries(time_series=running))
    behavior.add(PupilTracking(time_series=TimeSeries(name="pupil_size", data=size, unit="px", **clock)))
    behavior.add(EyeTracking(spatial_series=spatial("pupil_location", meters, "m", **clock)))
    spherical = spatial("pupil_location_spherical", degrees, "degrees", **clock)
    behavior.add(CompassDirection(spatial_series=spherical))
    path = write(nwb, folder / "sub-1_ses-2-StimA_behavior+image+ophys.nwb")
    with h5py.File(path, "a") as file:
        for name in ("natural_movie_one", "natural_movie_three", *["natural_scenes"] * restacked):
            clock = file[f"stimulus/templates/{name}/starting_time"]
            clock[()], clock.attrs["rate"] = np.nan, np.nan
            index = file[f"stimulus/presentation/{name}_stimulus"]
            index.attrs["neurodata_type"] = "IndexSeries"
            index["indexed_timeseries"] = h5py.SoftLink(f"/stimulus/templates/{name}")
    return Truth(
        path,
        {"ImagingPlane1": Plane("processing/ophys/DfOverF/DfOverFEvents", "events", times, traces(4, 1300, 5), "VISp")},
        sorted(shown, key=lambda row: row[0]),
        {
            "running_speed": (times, speed, "cm/s"),
            "pupil_size": (times, size, "px"),
            "gaze_x": (times, degrees[:, 0], "degrees"),
            "gaze_y": (times, degrees[:, 1], "degrees"),
        },
        said=("static_gratings was not used",),
    )


def openscope_session(folder, which):
    """000871 and 000617: several files, frames last, flips."""
    source = openscope.write_all(folder / which, which)
    planes = {}
    for number, (plane, late) in enumerate(openscope.PLANES.items()):
        times = late + np.arange(openscope.N_SAMPLES - number) / openscope.RATE
        values = traces(number, len(times), openscope.N_ROIS)[:, openscope.VALID]
        area = "VISp" if number == 0 else "VISl"
        planes[f"ImagingPlane1 {plane}"] = Plane("processing/ophys/event_detection", "events", times, values, area)
    movies = openscope.movies(which)
    shown = [(onset, onset + 2.0, movies[name]) for name, onset in openscope.order(which)]
    behavior = {"running_speed": (0.25 + np.arange(1900) / 60, trace(2, 1900), "cm/s")}
    said = ()
    if which == "000871":
        times, radius, center, blinking = openscope.eye()
        behavior["pupil_size"] = (times, np.where(blinking, np.nan, radius), "NA")
        for axis, name in enumerate(("gaze_x", "gaze_y")):
            behavior[name] = (times, np.where(blinking, np.nan, center[:, axis]), "NA")
    else:
        said = ("no pupil", "no gaze")
    return Truth(source, planes, shown, behavior, said=said)


def differentiation(folder):
    """000036: one dF/F series named after its plane, clips with an index each, no species, no pupil."""
    nwb = new_file("36")
    nwb.subject.fields.pop("species")
    table = add_plane(nwb, 1, 4, 30.0)
    data = traces(1, 900, 4)
    ophys = nwb.processing["ophys"]
    ophys.add(DfOverF())
    series = RoiResponseSeries(
        name="imaging_plane_1", data=data, rois=region(table), unit="NA", rate=30.0, starting_time=0.5
    )
    ophys["DfOverF"].add_roi_response_series(series)
    shown = []
    for number, name in enumerate(("mousecam", "snake", "human_montage")):
        frames = clip(number, 60)
        nwb.add_stimulus_template(ImageSeries(name=name, data=frames, unit="NA", rate=30.0, starting_time=0.0))
        onsets = [2.0 + 2.5 * number, 15.0 + 2.5 * number]
        shown += [(onset, onset + 2.0, frames) for onset in onsets]
        stamps = np.concatenate([onset + np.arange(60) / 30 for onset in onsets])
        index = np.tile(np.arange(60, dtype=np.uint32), 2)
        nwb.add_stimulus(TimeSeries(name=name, data=index, unit="N/A", timestamps=stamps))
    velocity = trace(1, 900)
    running = TimeSeries(name="running_velocity", data=velocity, unit="cm/s", rate=30.0, starting_time=0.5)
    nwb.create_processing_module("behavior", "behavior").add(BehavioralTimeSeries(time_series=running))
    path = write(nwb, folder / "sub-36_ses-36_behavior+image+ophys.nwb")
    with h5py.File(path, "a") as file:
        for name in ("mousecam", "snake", "human_montage"):
            index = file[f"stimulus/presentation/{name}"]
            index.attrs["neurodata_type"] = "IndexSeries"
            index["indexed_timeseries"] = h5py.SoftLink(f"/stimulus/templates/{name}")
    times = 0.5 + np.arange(900) / 30
    return Truth(
        path,
        {"ImagingPlane1": Plane("processing/ophys/DfOverF/imaging_plane_1", "dF/F", times, data, "VISp")},
        sorted(shown, key=lambda row: row[0]),
        {"running_speed": (times, velocity, "cm/s")},
        said=("no pupil", "no gaze"),
    )


def inconsistent(folder):
    """000037: color templates named in the trials, pupil diameter, gaze in two series; a plain file beside it."""
    gray = {number: clip(number, 60) for number in range(4)}
    times = 1 + np.arange(1200) / 30
    rows = [(3.0 + 3 * k, number) for k, number in enumerate((0, 1, 2, 0, 3, 1, 0, 2))]
    for stimulus in (False, True):
        nwb = new_file("37")
        table = add_plane(nwb, 1, 4, 30.0)
        ophys = nwb.processing["ophys"]
        ophys.add(DfOverF())
        ophys["DfOverF"].add_roi_response_series(
            RoiResponseSeries(
                name="RoiResponseSeries", data=traces(1, 1200, 4), rois=region(table), unit="NA", timestamps=times
            )
        )
        for name in ("start_frame_stim", "start_frame_twop", "stimulus_template_name"):
            nwb.add_trial_column(name=name, description=name)
        for onset, number in rows:
            nwb.add_trial(
                start_time=onset, stop_time=onset + 2.0, start_frame_stim=round(60 * onset),
                start_frame_twop=round(30 * (onset - 1)), stimulus_template_name=f"visual_flow_{number}",
            )  # fmt: skip
        module = nwb.create_processing_module("behavior", "behavior")
        clock = {"rate": 30.0, "starting_time": 1.0}
        diameter = TimeSeries(name="pupil_diameter", data=trace(1, 1200), unit="px", **clock)
        module.add(PupilTracking(time_series=diameter))
        x, y = (spatial(f"pupil_position_{axis}", trace(2 + k, 1200), "px", **clock) for k, axis in enumerate("xy"))
        module.add(EyeTracking(spatial_series=[x, y]))
        velocity = TimeSeries(name="running_velocity", data=trace(4, 1200), unit="cm/s", **clock)
        module.add(BehavioralTimeSeries(time_series=velocity))
        if stimulus:
            for number, frames in gray.items():
                colored = np.repeat(frames[..., None], 3, axis=-1)
                nwb.add_stimulus_template(
                    ImageSeries(name=f"visual_flow_{number}", data=colored, unit="NA", rate=30.0, starting_time=0.0)
                )
        write(nwb, folder / f"sub-37_ses-37_behavior{'+image' * stimulus}+ophys.nwb")
    path = "processing/ophys/DfOverF/RoiResponseSeries"
    return Truth(
        folder,
        {"ImagingPlane1": Plane(path, "dF/F", times, traces(1, 1200, 4), "VISp")},
        [(onset, onset + 2.0, gray[number]) for onset, number in rows],
        {
            "running_speed": (times, trace(4, 1200), "cm/s"),
            "pupil_size": (times, trace(1, 1200) / 2, "px"),
            "gaze_x": (times, trace(2, 1200), "px"),
            "gaze_y": (times, trace(3, 1200), "px"),
        },
        said=("holds less of what is needed",),
    )


def contrast(folder):
    """000039, 000049, 000050: a module of its own name, dF/F in a Fluorescence, events beside it, EyeBehavior.

    Those hold gratings alone; here a movie is shown besides.
    """
    nwb = new_file("39")
    table = add_plane(nwb, 1, 4, 30.0)
    times = 0.2 + np.arange(900) / 30
    module = nwb.create_processing_module("brain_observatory_pipeline", "all of it")
    module.add(Fluorescence(name="Fluorescence"))
    module.add(Fluorescence(name="l0_events"))
    for number, (container, name) in enumerate((("Fluorescence", "DfOverF"), ("l0_events", "true_false_events"))):
        module[container].add_roi_response_series(
            RoiResponseSeries(name=name, data=traces(number, 900, 4), rois=region(table), unit="NA", timestamps=times)
        )
    running = TimeSeries(name="running_speed", data=trace(1, 900), unit="cm/s", timestamps=times)
    module.add(BehavioralTimeSeries(time_series=running, name="RunningBehavior"))
    areas = [
        TimeSeries(name=name, data=trace(2 + k, 900), unit="px^2", timestamps=times)
        for k, name in enumerate(("eye_area", "pupil_area"))
    ]
    module.add(BehavioralTimeSeries(time_series=areas, name="EyeBehavior"))
    nwb.add_acquisition(
        TwoPhotonSeries(
            name="max_project", data=np.zeros((1, 16, 16), np.int16), rate=1.0, unit="NA",
            imaging_plane=nwb.imaging_planes["ImagingPlane1"],
        )
    )  # fmt: skip
    frames = np.concatenate([clip(number, 60) for number in range(5)])
    nwb.add_stimulus(ImageSeries(name="movie", data=frames, unit="NA", rate=30.0, starting_time=4.0))
    nwb.add_trial_column(name="clip", description="name")
    for number in range(5):
        nwb.add_trial(start_time=4.0 + 2 * number, stop_time=6.0 + 2 * number, clip=f"c{number}")
    gratings = nwb.create_time_intervals(name="drifting_gratings_presentations", description="gratings")
    gratings.add_column(name="contrast", description="contrast")
    for number in range(4):
        gratings.add_row(start_time=16.0 + number, stop_time=17.0 + number, contrast=0.2 * number)
    path = write(nwb, folder / "sub-39_ses-39_behavior+ophys.nwb")
    where = "processing/brain_observatory_pipeline/l0_events/true_false_events"
    return Truth(
        path,
        {"ImagingPlane1": Plane(where, "events", times, traces(1, 900, 4), "VISp")},
        [(4.0 + 2 * k, 6.0 + 2 * k, clip(k, 60)) for k in range(5)],
        {
            "running_speed": (times, trace(1, 900), "cm/s"),
            "pupil_size": (times, np.sqrt(trace(3, 900) / np.pi), "px"),
        },
    )


def multiplane(folder):
    """001768: a processing module a plane, the brain area in its name; blocks of flips; running is called speed."""
    nwb = new_file("1768")
    planes = {}
    for number, name in enumerate(("VISl_0", "VISp_0", "VISp_1")):
        whole = add_plane(nwb, number, 1, 11.0, location="unknown")
        module = nwb.create_processing_module(name, f"plane {name}")
        segmentation = ImageSegmentation(name="image_segmentation")
        module.add(segmentation)
        table = segmentation.create_plane_segmentation(
            name="roi_table", description="ROIs", imaging_plane=whole.imaging_plane
        )
        for roi in range(3 + number):
            table.add_roi(id=roi, image_mask=np.eye(4, dtype=np.float32) * (roi + 1))
        times = 0.3 + 0.02 * number + np.arange(400 - number) / 11
        data = traces(number, len(times), 3 + number)
        module.add(DfOverF(name="dff_timeseries"))
        module["dff_timeseries"].add_roi_response_series(
            RoiResponseSeries(name="dff_timeseries", data=data, rois=region(table), unit="NA", timestamps=times)
        )
        path = f"processing/{name}/dff_timeseries/dff_timeseries"
        planes[f"ImagingPlane{number}"] = Plane(path, "dF/F", times, data, name.partition("_")[0])
    shown = []
    for number, name in enumerate(("movie_a", "movie_b", "movie_c")):
        frames = clip(number, 60)
        nwb.add_stimulus_template(ImageSeries(name=name, data=frames, unit="NA", rate=30.0, starting_time=0.0))
        table = nwb.create_time_intervals(name=f"{name}_presentations", description="frames")
        for column in ("stimulus_name", "frame"):
            table.add_column(name=column, description=column)
        for onset in (2.0 + 5 * number, 18.0 + 5 * number):
            shown.append((onset, onset + 2.0, frames))
            for frame in range(60):
                start = onset + frame / 30
                table.add_row(start_time=start, stop_time=start + 1 / 30, stimulus_name=name, frame=frame)
    speed = TimeSeries(name="speed", data=trace(1, 2000), unit="cm/s", rate=60.0, starting_time=0.0)
    nwb.create_processing_module("running", "running").add(speed)
    path = write(nwb, folder / "multiplane-ophys_1768.nwb")
    behavior = {"running_speed": (np.arange(2000) / 60, trace(1, 2000), "cm/s")}
    return Truth(path, planes, sorted(shown, key=lambda row: row[0]), behavior, said=("no pupil",))


def neuropixels(folder):
    """000021 and 000022: spikes, names of frames only, the clips in a folder, times that are not to be used."""
    nwb = new_file("21")
    device = nwb.create_device(name="probe")
    group = nwb.create_electrode_group(name="probeA", description="probe", location="VISp", device=device)
    nwb.add_electrode(id=850, location="VISp", group=group, x=0.0, y=0.0, z=0.0)
    for column in ("quality", "peak_channel_id"):
        nwb.add_unit_column(name=column, description=column)
    rng = np.random.default_rng(3)
    # two clocks of counting, so that a spike is never at an edge
    spikes = [np.sort(rng.uniform(0, 45, 400)) for _ in range(4)]
    for number, times in enumerate(spikes):
        quality = "noise" if number == 1 else "good"
        nwb.add_unit(id=950 + number, spike_times=times, quality=quality, peak_channel_id=850)
    names = {"natural_movie_one": clip(1, 90), "natural_movie_three": clip(2, 60)}
    stimuli = folder / "clips"
    stimuli.mkdir(parents=True)
    shown = []
    for number, (name, frames) in enumerate(names.items()):
        np.save(stimuli / f"{name}.npy", frames)
        table = nwb.create_time_intervals(name=f"{name}_presentations", description="frames")
        for column in ("stimulus_name", "stimulus_block", "frame"):
            table.add_column(name=column, description=column)
        for block in range(4):
            onset = 2.0 + 20 * (block // 2) + 9 * number + (block % 2) * len(frames) / 30
            shown.append((onset, onset + len(frames) / 30, frames))
            for frame in range(len(frames)):
                start = onset + frame / 30
                table.add_row(
                    start_time=start, stop_time=start + 1 / 30, stimulus_name=name, stimulus_block=float(block),
                    frame=float(frame),
                )  # fmt: skip
    nwb.add_invalid_time_interval(start_time=40.0, stop_time=41.0)
    running = nwb.create_processing_module("running", "running")
    speed, ends = trace(1, 2600), np.arange(2600) / 60 + 1 / 60
    clock = np.arange(2600) / 60
    running.add(TimeSeries(name="running_speed", data=speed, unit="cm/s", timestamps=clock))
    running.add(TimeSeries(name="running_speed_end_times", data=ends, unit="cm/s", timestamps=clock))
    columns = {"timestamps": np.arange(1300) / 30, "width": trace(2, 1300), "height": trace(3, 1300)}
    columns |= {"center_x": trace(4, 1300), "center_y": trace(5, 1300), "phi": trace(6, 1300)}
    fits = nwb.create_processing_module("eye_tracking", "ellipses")
    for name, factor in (("eye_ellipse_fits", 3.0), ("pupil_ellipse_fits", 1.0)):
        data = [
            VectorData(name=key, description="pixels", data=values * (1 if key == "timestamps" else factor))
            for key, values in columns.items()
        ]
        fits.add(DynamicTable(name=name, description="ellipses", columns=data))
    path = write(nwb, folder / "sub-21_ses-21.nwb")

    from nwbrecon.session.opening import AROUND
    from nwbrecon.session.spikes import SPIKE_INTERVAL

    begin = min(row[0] for row in shown) - AROUND
    end = max(row[1] for row in shown) + AROUND
    times = begin + SPIKE_INTERVAL * np.arange(round((end - begin) / SPIKE_INTERVAL) + 1)
    edges = np.append(times[0] - SPIKE_INTERVAL, times)
    counts = np.stack([np.histogram(spikes[unit], edges)[0] for unit in (0, 2, 3)], axis=1)
    size = np.sqrt(columns["width"] * columns["height"]) / 2
    return Truth(
        path,
        {"probeA": Plane("units/spike_times", "spikes", times, counts, "VISp")},
        sorted(shown, key=lambda row: row[0]),
        {
            "running_speed": (clock, speed, "cm/s"),
            "pupil_size": (columns["timestamps"], size, "pixels"),
            "gaze_x": (columns["timestamps"], columns["center_x"], "pixels"),
            "gaze_y": (columns["timestamps"], columns["center_y"], "pixels"),
        },
        options={"stimulus_folder": stimuli},
        said=("1 stretches invalid",),
        invalid=[[40.0, 41.0]],
    )


LAYOUTS = {
    "000402, a clock a field": lambda folder: microns(folder, own_clocks=True),
    "000402, one clock": lambda folder: microns(folder, own_clocks=False),
    "000728": lambda folder: visual_coding(folder, restacked=False),
    "000728, scenes restacked": lambda folder: visual_coding(folder, restacked=True),
    "000871": lambda folder: openscope_session(folder, "000871"),
    "000617": lambda folder: openscope_session(folder, "000617"),
    "000036": differentiation,
    "000037": inconsistent,
    "000039": contrast,
    "001768": multiplane,
    "000021": neuropixels,
}
