"""Sessions of 000871 and 000617: a file a plane, frames last, a row a monitor flip, types of absent extensions.

Written in a process of its own, since types that a process has defined are not read from
the file's cache.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from .truth import clip, trace, traces

PLANES = {"1245937736": 0.0, "1245937740": 0.05}
N_SAMPLES, N_ROIS, RATE = 320, 4, 10.0
VALID = [True, True, False, True]
N_EYE = 900


def movies(which):
    names = {"000871": ("flower_fwd", "touch_of_evil_fwd", "worms_fwd"), "000617": ("movie_clip_A", "movie_clip_B")}
    return {name: clip(number, 60) for number, name in enumerate(names[which])}


def order(which):
    """``(movie, onset)``; twice in a row, and again after a pause."""
    names = list(movies(which))
    return [(name, 3.0 + 4.0 * k) for k, name in enumerate([*names, *names])]


def eye():
    times = 0.5 + np.arange(N_EYE) / 30
    rng = np.random.default_rng(5)
    return times, rng.uniform(5, 20, N_EYE), rng.normal(300, 4, (N_EYE, 2)), rng.random(N_EYE) < 0.05


def write_all(folder, which):
    """Write in a process that afterwards has not defined the extension."""
    root = Path(__file__).parents[3]
    module = ".".join(Path(__file__).relative_to(root).with_suffix("").parts)
    subprocess.run([sys.executable, "-W", "ignore", "-m", module, str(folder), which], check=True, cwd=root)
    return Path(folder)


def main(folder, which):
    import h5py
    from pynwb import TimeSeries
    from pynwb.image import ImageSeries
    from pynwb.ophys import DfOverF, Fluorescence
    from pynwb.ophys import RoiResponseSeries as Series

    from ..conftest import add_plane, new_file, region, write
    from ..write_extension import define_extension

    folder.mkdir(parents=True)
    types = define_extension(folder)
    for number, (plane, late) in enumerate(PLANES.items()):
        nwb = new_file(f"1245548523-acq-{plane}")
        table = add_plane(nwb, 1, N_ROIS, RATE, location="VISp" if number == 0 else "VISl")
        table.add_column(name="valid_roi", description="whether it is a cell", data=VALID)
        times = late + np.arange(N_SAMPLES - number) / RATE
        ophys = nwb.processing["ophys"]
        for offset, name in enumerate(("dff", "corrected_fluorescence", "neuropil_trace")):
            ophys.add(DfOverF(name=name) if name == "dff" else Fluorescence(name=name))
            data = traces(100 + 10 * number + offset, len(times), N_ROIS)
            ophys[name].add_roi_response_series(
                Series(name="traces", data=data, rois=region(table), unit="NA", timestamps=times)
            )
        events = types["OphysEventDetection"](
            name="event_detection", data=traces(number, len(times), N_ROIS), rois=region(table), unit="NA",
            timestamps=times,
        )  # fmt: skip
        ophys.add(events)
        for name, frames in movies(which).items():
            # meaningless: a count, or not a number
            clock = np.arange(float(len(frames))) if which == "000871" else np.full(len(frames), np.nan)
            nwb.add_stimulus_template(ImageSeries(name=name, data=frames, unit="NA", timestamps=clock))
            shown = name if name.startswith("movie_") else f"movie_{name}"
            flips = nwb.create_time_intervals(name=f"{shown}_presentations", description="a row a monitor flip")
            for column in ("stimulus_name", "frame", "stimulus_block"):
                flips.add_column(name=column, description=column)
            for block, (movie, onset) in enumerate(order(which)):
                for flip in range(2 * len(frames) if movie == name else 0):
                    start = onset + flip / 60
                    flips.add_row(
                        start_time=start, stop_time=start + 1 / 60, stimulus_name=shown, frame=float(flip // 2),
                        stimulus_block=float(block),
                    )  # fmt: skip
        running = nwb.create_processing_module("running", "running")
        for offset, name in enumerate(("speed_unfiltered", "dx", "speed")):
            unit = "cm" if name == "dx" else "cm/s"
            running.add(TimeSeries(name=name, data=trace(offset, 1900), unit=unit, rate=60.0, starting_time=0.25))
        if which == "000871":
            nwb.add_acquisition(tracking(types))
        path = write(nwb, folder / f"sub-656228_ses-1245548523-acq-{plane}_image+ophys.nwb")
        with h5py.File(path, "a") as file:
            for name, frames in movies(which).items():
                template = file[f"stimulus/templates/{name}"]
                attributes = dict(template["data"].attrs)
                del template["data"]
                template["data"] = frames.transpose(2, 1, 0)
                template["data"].attrs.update(attributes)
    for specification in folder.glob("*.yaml"):
        specification.unlink()


def tracking(types):
    from pynwb import TimeSeries

    times, radius, center, blinking = eye()
    parts = {}
    for part, factor in (("pupil", 1.0), ("eye", 4.0), ("corneal_reflection", 0.5)):
        area = np.pi * (factor * radius) ** 2
        parts[f"{part}_tracking"] = types["EllipseSeries"](
            name=f"{part}_tracking", data=factor * center, area=np.where(blinking, np.nan, area), area_raw=area,
            width=factor * radius, height=factor * radius, angle=np.zeros(len(radius)), unit="NA", timestamps=times,
            reference_frame="the camera's corner",
        )  # fmt: skip
    blink = TimeSeries(name="likely_blink", data=blinking, unit="N/A", timestamps=times)
    return types["EllipseEyeTracking"](name="EyeTracking", likely_blink=blink, **parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
