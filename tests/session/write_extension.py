"""Write a file with types of an extension that the reader does not have; run in a process of its own."""

import sys
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, TimeSeries, get_class, load_namespaces
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder


def define_extension(folder):
    builder = NWBNamespaceBuilder("types of an extension", "ndx-made-up", version="0.1.0", author="a", contact="a@b.c")
    for name in ("SpatialSeries", "NWBDataInterface", "TimeSeries", "RoiResponseSeries"):
        builder.include_type(name, namespace="core")
    measures = ("area", "area_raw", "width", "height", "angle")
    ellipses = NWBGroupSpec(
        "fitted ellipses",
        neurodata_type_def="EllipseSeries",
        neurodata_type_inc="SpatialSeries",
        datasets=[NWBDatasetSpec(name, name=name, dtype="float", shape=(None,)) for name in measures],
    )
    tracking = NWBGroupSpec(
        "ellipse tracking",
        neurodata_type_def="EllipseEyeTracking",
        neurodata_type_inc="NWBDataInterface",
        groups=[
            *(
                NWBGroupSpec(part, name=f"{part}_tracking", neurodata_type_inc="EllipseSeries")
                for part in ("eye", "pupil", "corneal_reflection")
            ),
            NWBGroupSpec("blinks", name="likely_blink", neurodata_type_inc="TimeSeries"),
        ],
    )
    events = NWBGroupSpec("events", neurodata_type_def="OphysEventDetection", neurodata_type_inc="RoiResponseSeries")
    for spec in (ellipses, tracking, events):
        builder.add_spec("made-up.extensions.yaml", spec)
    builder.export("made-up.namespace.yaml", outdir=str(folder))
    load_namespaces(str(folder / "made-up.namespace.yaml"))
    return {
        name: get_class(name, "ndx-made-up") for name in ("EllipseSeries", "EllipseEyeTracking", "OphysEventDetection")
    }


def main(path):
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import add_dff, add_plane, new_file, region, with_movie

    types = define_extension(path.parent)
    nwb = with_movie(new_file())
    table = add_plane(nwb, 1, 3, 10.0)
    add_dff(nwb, np.zeros((50, 3)), table)
    nwb.processing["ophys"].add(
        types["OphysEventDetection"](
            name="detection", data=np.arange(150.0).reshape(50, 3), rois=region(table), unit="a.u.", rate=10.0
        )
    )
    radius = 3 + np.arange(40.0)
    blinking = (np.arange(40) >= 10) & (np.arange(40) < 14)
    parts = {}
    for part, offset in (("pupil", 0.0), ("eye", 1000.0), ("corneal_reflection", 2000.0)):
        area = np.pi * (radius + offset) ** 2
        parts[f"{part}_tracking"] = types["EllipseSeries"](
            name=f"{part}_tracking",
            data=np.arange(80.0).reshape(40, 2) + offset,
            # one blink is known to the series of blinks only, one to the area only
            area=np.where(np.arange(40) == 30, np.nan, area),
            area_raw=area,
            width=radius,
            height=radius,
            angle=np.zeros(40),
            reference_frame="the camera's corner",
            unit="px",
            rate=20.0,
        )
    blink = TimeSeries(name="likely_blink", data=blinking, unit="N/A", rate=20.0)
    nwb.add_acquisition(types["EllipseEyeTracking"](name="EyeTracking", likely_blink=blink, **parts))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
