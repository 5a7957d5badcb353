import h5py
import numpy as np
import pytest
from pynwb.image import ImageSeries

import nwbrecon as nr
from nwbrecon.errors import SessionError
from nwbrecon.session import SignalKind
from nwbrecon.session.spikes import SPIKE_INTERVAL

from .conftest import clip_frames, new_file, with_movie, with_responses, write

rng = np.random.default_rng(0)


def with_probes(nwb, areas=("VISp", "CA1"), n_channels=3):
    """Two probes with some electrodes each, whose ids are not their rows."""
    device = nwb.create_device(name="array")
    nwb.add_electrode_column(name="probe_vertical_position", description="um")
    for probe, area in zip("AB", areas, strict=True):
        group = nwb.create_electrode_group(name=f"probe{probe}", description="probe", location=area, device=device)
        for channel in range(n_channels):
            nwb.add_electrode(
                id=1000 * (probe == "B") + 10 * channel + 850, location=area, group=group, x=1.0, y=2.0,
                z=float(channel), probe_vertical_position=20.0 * channel,
            )  # fmt: skip


def counts_of(times, clock):
    """How many spikes fall into the interval before each time stamp, by looking at each spike."""
    counts = np.zeros(len(clock))
    for time in times:
        for number, stop in enumerate(clock):
            if stop - SPIKE_INTERVAL < time <= stop:
                counts[number] += 1
    return counts


@pytest.fixture
def neuropixels():
    """Sorted units as in the Neuropixels files of the Allen Institute, and their spike times."""
    nwb = with_movie(new_file())
    with_probes(nwb)
    for column in ("quality", "presence_ratio", "isi_violations", "amplitude_cutoff", "peak_channel_id"):
        nwb.add_unit_column(name=column, description=column)
    spikes = []
    for number, (channel, quality, presence, isi) in enumerate(
        [(850, "good", 0.99, 0.1), (1870, "good", 0.95, 0.0), (860, "noise", 0.99, 0.0), (870, "good", 0.2, 0.0),
         (1850, "good", 0.99, 0.9), (860, "good", 0.99, np.nan)]
    ):  # fmt: skip
        times = np.sort(rng.uniform(-10, 60, 300))
        spikes.append(times)
        nwb.add_unit(
            id=950_000 + number, spike_times=times, quality=quality, presence_ratio=presence, isi_violations=isi,
            amplitude_cutoff=0.01, peak_channel_id=channel,
        )  # fmt: skip
    return nwb, spikes


def test_units_are_groups_of_counts_a_probe(neuropixels, tmp_path):
    nwb, spikes = neuropixels
    with nr.open_session(write(nwb, tmp_path / "n.nwb")) as session:
        assert list(session.responses) == ["probeA", "probeB"]
        kept = {"probeA": [0, 5], "probeB": [1]}
        for name, group in session.responses.items():
            assert group.kind is SignalKind.SPIKES
            assert list(group.rois.index) == [950_000 + number for number in kept[name]]
            assert set(group.rois["area"]) == {"VISp" if name == "probeA" else "CA1"}
            # the movie is shown from 1 to 3 s
            assert group.timestamps[0] == pytest.approx(1 - 5)
            assert group.timestamps[-1] >= 3 + 5
            np.testing.assert_allclose(np.diff(group.timestamps), SPIKE_INTERVAL)
            n_bins = len(group.timestamps)
            assert group.signal.shape == (n_bins, len(kept[name]))
            got = group.signal.read(0, n_bins)
            for column, number in enumerate(kept[name]):
                np.testing.assert_array_equal(got[:, column], counts_of(spikes[number], group.timestamps))
            np.testing.assert_array_equal(group.signal.read(30, 77), got[30:77])
            assert group.signal.read(50, 50).shape == (0, len(kept[name]))
        assert session.responses["probeB"].rois["z"].tolist() == [2.0]
        text = " ".join(session.warnings)
        assert "3 of 6 units were left out by quality, isi_violations, amplitude_cutoff, presence_ratio" in text


def test_a_spike_at_a_time_stamp_belongs_to_the_bin_before_it():
    nwb = with_movie(new_file())
    clock = -4 + np.arange(800) * SPIKE_INTERVAL
    nwb.add_unit(spike_times=clock[[3, 3, 700]])
    counts = next(iter(nr.open_session(nwb).responses.values())).signal.read(0, 720)
    assert np.flatnonzero(counts[:, 0]).tolist() == [3, 700]
    assert counts[3, 0] == 2


def test_spikes_in_no_order_or_at_no_time_are_counted_as_far_as_they_go():
    nwb = with_movie(new_file())
    nwb.add_unit(spike_times=[2.003, 1.003, np.nan, 1.503, np.inf, -np.inf])
    nwb.add_unit(spike_times=[])
    (group,) = nr.open_session(nwb).responses.values()
    counts = group.signal.read(0, len(group.timestamps))
    np.testing.assert_array_equal(counts[:, 0], counts_of([1.003, 1.503, 2.003], group.timestamps))
    assert not counts[:, 1].any()


def test_units_are_unknown_where_they_were_not_observed():
    nwb = with_movie(new_file())
    nwb.add_unit(spike_times=[1.0, 2.0], obs_intervals=[[0.0, 1.5], [1.75, 3.0]])
    (group,) = nr.open_session(nwb).responses.values()
    counts = group.signal.read(0, len(group.timestamps))[:, 0]
    starts, stops = group.timestamps - SPIKE_INTERVAL, group.timestamps
    known = ((starts >= -1e-6) & (stops <= 1.5 + 1e-6)) | ((starts >= 1.75 - 1e-6) & (stops <= 3 + 1e-6))
    np.testing.assert_array_equal(np.isnan(counts), ~known)


def test_probes_by_the_units_own_electrodes():
    nwb = with_movie(new_file())
    with_probes(nwb)
    nwb.add_unit(spike_times=[1.0], electrodes=[4, 0], electrode_group=nwb.electrode_groups["probeB"])
    nwb.add_unit(spike_times=[1.0], electrodes=[1], electrode_group=nwb.electrode_groups["probeA"])
    session = nr.open_session(nwb)
    assert {name: list(group.rois["area"]) for name, group in session.responses.items()} == {
        "probeB": ["CA1"],
        "probeA": ["VISp"],
    }


def test_rois_are_preferred_to_units_unless_these_are_asked_for():
    nwb = with_responses(with_movie(new_file()))
    nwb.add_unit(spike_times=[1.0])
    session = nr.open_session(nwb)
    assert {group.kind for group in session.responses.values()} == {SignalKind.DFF}
    assert 'signal="spikes" takes them' in " ".join(session.warnings)
    assert {group.kind for group in nr.open_session(nwb, signal="spikes").responses.values()} == {SignalKind.SPIKES}


def test_units_of_no_known_quality_are_all_used():
    nwb = with_movie(new_file())
    nwb.add_unit_column(name="quality", description="quality")
    for label in ("noise", "mua"):
        nwb.add_unit(spike_times=[1.0], quality=label)
    assert nr.open_session(nwb).n_rois == 2


def test_units_without_spike_times_or_with_a_broken_index_are_none(tmp_path):
    nwb = with_movie(new_file())
    nwb.add_unit_column(name="depth", description="um")
    nwb.add_unit(depth=3.0)
    with pytest.raises(SessionError, match="no spikes of units"):
        nr.open_session(nwb)
    nwb = with_movie(new_file())
    nwb.add_unit(spike_times=[1.0, 2.0])
    nwb.add_unit(spike_times=[1.0])
    path = write(nwb, tmp_path / "broken.nwb")
    with h5py.File(path, "a") as file:
        file["units/spike_times_index"][:] = [2, 250]
    with pytest.raises(SessionError, match=r"the index of its spike times does not fit them"):
        nr.open_session(path)


def test_spikes_without_a_stimulus_lack_the_stimulus():
    nwb = new_file()
    nwb.add_unit(spike_times=[1.0])
    with pytest.raises(SessionError, match="holds no stimulus"):
        nr.open_session(nwb)


def test_waveforms_are_not_read(tmp_path):
    nwb = with_movie(new_file())
    for _ in range(4):
        nwb.add_unit(spike_times=np.arange(5.0), waveform_mean=np.ones((80, 300)))
    path = write(nwb, tmp_path / "w.nwb")
    with nr.open_session(path) as session:
        (group,) = session.responses.values()
        assert "waveform_mean" not in group.rois


def test_spikes_are_aligned_as_counts(neuropixels):
    """Frames hold the spikes that fall to them: their sum is what was fired while the movie ran."""
    nwb, spikes = neuropixels
    for number in range(7):
        with_movie_at(nwb, number)
    session = nr.open_session(nwb)
    aligned = nr.align(session, frame_size=(6, 10), min_clip_seconds=1.0, guard_seconds=0, duplicate_correlation=1.0)
    (group, _) = aligned.groups
    assert group.kind is SignalKind.SPIKES
    np.testing.assert_array_equal(group.scale, 1)
    label = aligned.trials.index[0]
    row = aligned.trials.loc[label]
    frames = nr.alignment.responses_on_frames(aligned, label)
    # to a bin at either end
    fired = ((spikes[0] > row["onset"]) & (spikes[0] <= row["onset"] + row["n_frames"] / 30)).sum()
    assert frames[:, 0].sum() == pytest.approx(fired, abs=2)


def with_movie_at(nwb, number):
    nwb.add_stimulus(
        ImageSeries(
            name=f"clip_{number}", data=clip_frames(number, 60), unit="n.a.", rate=30.0, starting_time=4.0 + 3 * number
        )
    )
