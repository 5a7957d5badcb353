"""Clocks of all kinds, from an NWB file through alignment, against a slow oracle that looks at one bin at a time.

Clocks are irregular, drift, begin anywhere, pause, and are spoiled as those in archives are: stamps that are NaN,
stamps that have run away, samples that were written twice. The oracle never sees the spoiled ones.
"""

import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynwb import NWBFile, TimeSeries
from pynwb.image import ImageSeries
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, RoiResponseSeries

import nwbrecon as nr
from nwbrecon.alignment import responses_on_frames

N_CLIPS, N_FRAMES, MOVIE_RATE, FRAME_RATE = 6, 36, 30.0, 20.0
PAUSE, BEFORE = 1.0, 2.0
SIZE = (4, 6)
GAP_LIMIT = 0.5
COVERED = 0.999
SPLITS = ("train", "train", "train", "train", "validation", "test")


@st.composite
def clocks(draw, span):
    """Increasing times over ``(start, stop)``: rate, jitter, drift, a pause."""
    start, stop = span
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    interval = 1 / draw(st.sampled_from([4.1, 6.3, 10.0, 29.97, 61.0]))
    jitter = draw(st.sampled_from([0.0, 0.02, 0.3]))
    drift = draw(st.sampled_from([0.0, 1e-3, -1e-3]))
    n = int((stop - start) / interval)
    times = start + interval * (1 + drift) * np.arange(n) + interval * jitter * rng.uniform(-1, 1, n)
    if draw(st.booleans()):
        pause = draw(st.floats(start, stop))
        times = times[(times < pause) | (times > pause + draw(st.sampled_from([0.2, 0.7, 3.0])))]
    return times


def spoil(times, values, kinds, rng):
    """What a file would hold in place of these samples; and which of the samples it has left, spoiled stamps out."""
    times, values, good = times.copy(), values.copy(), np.ones(len(times), dtype=bool)
    if "nan" in kinds:
        rows = rng.choice(len(times), 3, replace=False)
        times[rows], good[rows] = np.nan, False
    if "away" in kinds:
        # at an end, nobody could tell which of two stamps is wrong
        for row, stamp in zip(8 + rng.choice(len(times) - 16, 2, replace=False), (-1e9, 1e9), strict=True):
            times[row], good[row] = stamp, False
    kept = times[good], values[good]
    if "twice" in kinds:
        rows = np.sort(rng.choice(len(times), 3, replace=False))
        times, values = np.insert(times, rows, times[rows]), np.insert(values, rows, values[rows], axis=0)
    return times, values, *kept


@st.composite
def recordings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, -300.0, 1234.5, 1e6]))
    movie_jitter = draw(st.sampled_from([0.0, 0.2]))
    stamps, now = [], offset + BEFORE
    for _ in range(N_CLIPS):
        frames = now + (np.arange(N_FRAMES) + movie_jitter * rng.uniform(-1, 1, N_FRAMES)) / MOVIE_RATE
        stamps.append(frames)
        now = frames[-1] + PAUSE
    span = offset + draw(st.sampled_from([0.0, BEFORE + 0.5])), now + 1.0
    spoils = st.sets(st.sampled_from(["nan", "away", "twice"]))
    responses, behavior = draw(clocks(span)), draw(clocks(span))
    values = rng.gamma(1.0, 1.0, (len(responses), 3)).astype(np.float32)
    speed = rng.normal(10, 3, len(behavior))
    if draw(st.booleans()):
        values[rng.integers(0, len(values), 3), 1] = np.nan
        speed[rng.integers(0, len(speed), 10)] = np.nan
    return {
        "stamps": stamps,
        "frames": rng.integers(0, 256, (N_CLIPS * N_FRAMES, *SIZE), dtype=np.uint8),
        "responses": spoil(responses, values, draw(spoils), rng),
        "behavior": spoil(behavior, speed, draw(spoils), rng),
        "kind": draw(st.sampled_from(["events", "dff"])),
    }


def written(recording):
    nwb = NWBFile("clocks", "clocks", datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    plane = nwb.create_imaging_plane(
        name="plane",
        optical_channel=OpticalChannel(name="green", description="green", emission_lambda=510.0),
        description="plane",
        device=nwb.create_device(name="scope"),
        excitation_lambda=920.0,
        indicator="GCaMP6s",
        location="VISp",
    )
    ophys = nwb.create_processing_module("ophys", "ophys")
    ophys.add(ImageSegmentation())
    table = ophys["ImageSegmentation"].create_plane_segmentation(name="rois", description="r", imaging_plane=plane)
    for roi in range(3):
        table.add_roi(pixel_mask=[(roi, 0, 1.0)])
    ophys.add(DfOverF())
    times, values = recording["responses"][:2]
    ophys["DfOverF"].add_roi_response_series(
        RoiResponseSeries(
            name=recording["kind"],
            data=values,
            unit="a.u.",
            timestamps=times,
            rois=table.create_roi_table_region(region=[0, 1, 2], description="all"),
        )
    )
    times, speed = recording["behavior"][:2]
    nwb.add_acquisition(TimeSeries(name="running_speed", data=speed, unit="cm/s", timestamps=times))
    nwb.add_stimulus(
        ImageSeries(name="movie", data=recording["frames"], unit="n.a.", timestamps=np.concatenate(recording["stamps"]))
    )
    nwb.add_trial_column(name="clip", description="name")
    nwb.add_trial_column(name="split", description="split")
    for number, (own, split) in enumerate(zip(recording["stamps"], SPLITS, strict=True)):
        nwb.add_trial(start_time=own[0], stop_time=own[-1] + 1 / MOVIE_RATE, clip=f"clip {number}", split=split)
    return nwb


def counted(start, stop, times, values, longest):
    """Counts in a bin: every sample's spread evenly over the interval before it."""
    total, known = 0.0, 0.0
    for (before, at), value in zip(pairwise(times), values[1:], strict=True):
        common = min(stop, at) - max(start, before)
        if common > 1e-6 * min(stop - start, at - before) and at - before <= longest:
            total += value * common / (at - before)
            known += common
    return total if known >= COVERED * (stop - start) else np.nan


def averaged(start, stop, times, values, longest):
    """Mean over a bin of the straight lines between samples, by the value half-way of each piece."""
    total, known = 0.0, 0.0
    for (before, at), (one, other) in zip(pairwise(times), pairwise(values), strict=True):
        common = min(stop, at) - max(start, before)
        if common > 1e-6 * min(stop - start, at - before) and at - before <= longest:
            middle = (min(stop, at) + max(start, before)) / 2
            total += common * (one + (other - one) * (middle - before) / (at - before))
            known += common
    return total / (stop - start) if known >= COVERED * (stop - start) else np.nan


def displayed(start, stop, stamps, frames):
    """Mean of what stood on the screen, by the time for which it did."""
    total, known = np.zeros(SIZE), 0.0
    for (before, at), frame in zip(pairwise(stamps), frames[:-1], strict=True):
        common = max(min(stop, at) - max(start, before), 0.0)
        total += common * frame
        known += common
    return total / known


@given(recordings())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_whatever_the_clocks_alignment_is_what_one_sees_bin_by_bin(recording):
    aligned = nr.align(
        nr.open_session(written(recording)),
        frame_rate=FRAME_RATE,
        frame_size=SIZE,
        min_clip_seconds=0.5,
        guard_seconds=0.0,
        behavior_gap_seconds=GAP_LIMIT,
        duplicate_correlation=1.0,
        responses__deconvolve=False,
    )
    (group,) = aligned.groups
    times, values = recording["responses"][2:]
    np.testing.assert_array_equal(group.timestamps, times)
    usual = np.median(np.diff(times))
    behavior_times, speed = recording["behavior"][2:]
    # missing samples are bridged, but for gaps that are longer than the limit
    bridged = max(GAP_LIMIT, 1.5 * np.median(np.diff(behavior_times)))
    known = np.isfinite(speed)
    assert list(aligned.trials["clip"]) == [
        f"clip {k}" for k in range(N_CLIPS) if f"clip {k}" in set(aligned.trials["clip"])
    ]
    for label, row in aligned.trials.iterrows():
        number = int(row["clip"].removeprefix("clip "))
        stamps = recording["stamps"][number]
        frames = recording["frames"][number * N_FRAMES : (number + 1) * N_FRAMES].astype(float)
        assert row["onset"] == stamps[0]
        assert abs(row["n_frames"] - (stamps[-1] + 1 / MOVIE_RATE - stamps[0]) * FRAME_RATE) <= 1.01
        trial = aligned.trial(label)
        found = responses_on_frames(aligned, label) * group.scale
        resample = counted if recording["kind"] == "events" else averaged
        for bin_number, start in enumerate(trial.times):
            stop = start + 1 / FRAME_RATE
            columns = [resample(start, stop, times, values[:, roi], 2.5 * usual) for roi in range(values.shape[1])]
            np.testing.assert_allclose(found[bin_number], columns, rtol=2e-4, atol=1e-5)
            assert trial.valid[bin_number] == np.isfinite(columns).any()
            expected = averaged(start, stop, behavior_times[known], speed[known], bridged)
            np.testing.assert_allclose(trial.behavior[bin_number], [expected], rtol=1e-4, atol=1e-4)
            if stop <= stamps[-1]:
                picture = displayed(start, stop, stamps, frames)
                np.testing.assert_allclose(trial.video[bin_number], picture, atol=0.2)


def test_the_oracle_is_right():
    times, values = np.array([0.0, 1.0, 3.0]), np.array([9.0, 2.0, 6.0])
    assert counted(0.5, 2.0, times, values, 5.0) == pytest.approx(1.0 + 3.0)
    assert np.isnan(counted(0.5, 2.0, times, values, 1.5))
    assert averaged(0.0, 1.0, times, values, 5.0) == pytest.approx(5.5)
    assert np.isnan(averaged(2.5, 3.5, times, values, 5.0))
    assert displayed(0.5, 1.5, times, np.array([np.full(SIZE, 10.0), np.full(SIZE, 30.0), np.zeros(SIZE)]))[0, 0] == 20
