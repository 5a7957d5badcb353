"""Write a file with types of an extension that the reader does not have; run in a process of its own."""

import sys
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, get_class, load_namespaces
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder


def define_extension(folder):
    builder = NWBNamespaceBuilder("types of an extension", "ndx-made-up", version="0.1.0", author="a", contact="a@b.c")
    for name in ("SpatialSeries", "EyeTracking", "RoiResponseSeries"):
        builder.include_type(name, namespace="core")
    ellipses = NWBGroupSpec(
        "fitted ellipses",
        neurodata_type_def="EllipseSeries",
        neurodata_type_inc="SpatialSeries",
        datasets=[NWBDatasetSpec("area", name="area", dtype="float", shape=(None,))],
    )
    tracking = NWBGroupSpec(
        "ellipse tracking",
        neurodata_type_def="EllipseEyeTracking",
        neurodata_type_inc="EyeTracking",
        groups=[NWBGroupSpec("pupil", name="pupil_tracking", neurodata_type_inc="EllipseSeries")],
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
    pupil = types["EllipseSeries"](
        name="pupil_tracking",
        data=np.arange(80.0).reshape(40, 2),
        area=np.pi * np.arange(40.0) ** 2,
        reference_frame="the camera's corner",
        unit="px",
        rate=20.0,
    )
    nwb.add_acquisition(types["EllipseEyeTracking"](name="EyeTracking", pupil_tracking=pupil))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
