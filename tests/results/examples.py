"""Made reconstructions with real scores, for the tests of this room."""

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter

from nwbrecon import AlignedSession, EncoderEnsemble, Reconstruction, Reconstructions, Scores
from nwbrecon.alignment.model import AlignedGroup
from nwbrecon.config import EncoderSettings
from nwbrecon.encoding import VideoEncoder
from nwbrecon.evaluation import Controls
from nwbrecon.evaluation.controls import CONTROLS
from nwbrecon.session import SignalKind

RATE = 30.0


def moving_texture(frames, height, width, seed):
    """A drifting, slowly changing texture: structure at all scales, contrast like that of a natural movie."""
    rng = np.random.default_rng(seed)
    field = sum(
        scale * gaussian_filter(rng.standard_normal((frames, height, width + frames)), (6, scale, scale), mode="wrap")
        for scale in (1, 2, 5)
    )
    movie = np.stack([field[t, :, t // 3 : t // 3 + width] for t in range(frames)])
    return np.clip(128 + 45 * movie / movie.std(), 0, 255).astype(np.float32)


def aligned_session(clips=3, repeats=2, frames=70, size=(18, 32), seed=0):
    """A few clips, each shown `repeats` times, on an uneven clock as in a real session."""
    rng = np.random.default_rng(seed)
    movies = {f"clip {number}": moving_texture(frames, *size, seed + number) for number in range(clips)}
    order = [name for _ in range(repeats) for name in movies]
    onsets = 100 + np.cumsum(frames / RATE + rng.uniform(0.4, 0.6, len(order)))
    samples = np.arange(90, onsets[-1] + 10, 0.15)
    group = AlignedGroup(
        "plane 1",
        SignalKind.EVENTS,
        samples,
        rng.gamma(1, 1, (len(samples), 40)).astype(np.float32),
        np.ones(40, np.float32),
        pd.DataFrame({"x": rng.uniform(0, 100, 40)}),
        "dF/F deconvolved",
    )
    aligned = AlignedSession.from_arrays(
        [movies[name] for name in order],
        [group],
        onsets=onsets,
        clips=order,
        splits=["test"] * len(order),
        frame_rate=RATE,
        behaviors=[np.ones((frames, 1))] * len(order),
        behavior_names=["running_speed"],
    )
    aligned.identity = {
        "identifier": "a-recording",
        "session_id": "4_7",
        "session_start_time": "2020-05-01T12:00:00+00:00",
        "location": "recording.nwb",
    }
    aligned.subject = {"subject_id": "17797", "species": "Mus musculus", "sex": "M", "age": "P90D"}
    aligned.settings = {"frame_rate": RATE, "frame_size": list(size), "seed": 0}
    return aligned


def encoder_for(aligned, seed=0):
    """An encoder of these ROIs that has learned nothing: what it predicts depends on the movie all the same."""
    member = VideoEncoder(
        EncoderSettings(channels=8, kernel_size=5),
        n_rois=aligned.n_rois,
        frame_size=aligned.frame_size,
        frame_rate=aligned.frame_rate,
        behavior_names=aligned.behavior_names,
        seed=seed,
    )
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        member.readout.linear.normal_(generator=random)
        member.readout.position.normal_(generator=random)
    ones = np.ones(aligned.n_rois)
    return EncoderEnsemble(
        [member],
        rois=aligned.rois,
        kinds=[group.kind for group in aligned.groups],
        dispersion=1.5 * ones,
        linear_scores=ones,
        validation_scores=np.linspace(0, 0.5, aligned.n_rois),
        gate={"sees": True, "sentence": "It sees."},
        history=pd.DataFrame(
            {"epoch": range(5), "loss": [np.nan, 4.0, 3.0, 2.0, 1.5], "validation_correlation": 0.2, "member": 0}
        ),
        info={
            "version": "0",
            "training": {"likelihood": "auto", "seed": seed},
            "session": aligned.identity,
            "training_data": "a hash",
        },
    )


def reconstruct(aligned, seed=0, snapshots=4, std=True):
    """Blurred, noisy versions of what was shown: better for the main method than for the baseline beside it."""
    rng = np.random.default_rng(seed)
    items = []
    for label, trial in aligned.trials.iterrows():
        true = aligned.trial(label).video
        noise = gaussian_filter(rng.standard_normal(true.shape), (2, 1.5, 1.5))
        video = 128 + 0.7 * (gaussian_filter(true, (1, 1, 1)) - 128) + 12 * noise / noise.std()
        ridge = 128 + 0.3 * (gaussian_filter(true, (3, 2, 2)) - 128) + 12 * np.roll(noise / noise.std(), 5, axis=0)
        steps = np.linspace(0, 1, snapshots)
        items.append(
            Reconstruction(
                clip=trial["clip"],
                trials=(label,),
                video=video.astype(np.float32),
                onset=trial["onset"],
                frame_rate=aligned.frame_rate,
                std=(20 + 5 * np.abs(noise)).astype(np.float32) if std else None,
                baselines={"ridge": ridge.astype(np.float32)},
                history=pd.DataFrame(
                    {
                        "iteration": np.arange(12),
                        "objective": 1000 * np.exp(-np.arange(12) / 4) + 400,
                        "negative_log_likelihood": 1000 * np.exp(-np.arange(12) / 4) + 300,
                        "negative_log_prior": 100.0 + np.arange(12),
                        "seconds": 0.5 * np.arange(12),
                    }
                ),
                snapshots=np.clip(128 + steps[:, None, None, None] * (video - 128), 0, 255).astype(np.uint8)
                if snapshots
                else None,
                snapshot_iterations=np.round(11 * steps).astype(int) if snapshots else None,
                info={"converged": True, "prior_weight": 0.5, "seconds": 6.0},
            )
        )
    height, width = aligned.frame_size
    rows, columns = np.mgrid[:height, :width]
    coverage = np.exp(-(((rows - height / 2) / height) ** 2 + ((columns - width / 2) / width) ** 2) * 6)
    return Reconstructions(
        items,
        "map",
        coverage > 0.4,
        coverage.astype(np.float32),
        settings={"prior": "natural", "seed": 3, "optimizer": {"iterations": 12}},
        info={"gate": {"sees": True, "n_visual": 40, "true": 0.3, "wrong": 0.05, "gray": 0.1}},
        warnings=["Pupil size is not in the file."],
    )


def correlation(one, other):
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def evaluate(reconstructions, aligned):
    """Real correlations, plainly computed."""
    mask = reconstructions.mask
    trials, frames, lags = [], [], []
    methods = [reconstructions.method, "ridge"]
    for item in reconstructions:
        true = aligned.trial(item.trials[0]).video
        for method in methods:
            video = item.video if method == reconstructions.method else item.baselines[method]
            others = [aligned.trial(other).video for other, clip in aligned.trials["clip"].items() if clip != item.clip]
            by_frame = [correlation(a[mask], b[mask]) for a, b in zip(video, true, strict=True)]
            key = {"clip": item.clip, "trial": item.trials[0], "method": method}
            by_lag = {
                lag: correlation(video[10 + lag : len(video) - 10 + lag][:, mask], true[10:-10][:, mask])
                for lag in range(-10, 11)
            }
            trials.append(
                key
                | {
                    "repeat": aligned.trials.at[item.trials[0], "repeat"],
                    "onset": item.onset,
                    "n_frames": len(video),
                    "pixel_correlation": correlation(video[:, mask], true[:, mask]),
                    "dynamic_correlation": correlation(
                        (video - video.mean(0))[:, mask], (true - true.mean(0))[:, mask]
                    ),
                    "frame_correlation": float(np.mean(by_frame)),
                    "lag": max(by_lag, key=by_lag.get),
                    "chance": float(np.mean([correlation(video[:, mask], other[:, mask]) for other in others])),
                    "pixel_correlation_full": correlation(video, true),
                }
            )
            frames += [
                key | {"frame": index, "time": time, "frame_correlation": value}
                for index, (time, value) in enumerate(zip(item.times, by_frame, strict=True))
            ]
            lags += [{"method": method, "lag": lag, "pixel_correlation": value} for lag, value in by_lag.items()]
    table = pd.DataFrame(trials)
    rng = np.random.default_rng(0)
    summary = []
    for method in methods:
        for metric in ("pixel_correlation", "dynamic_correlation", "frame_correlation", "chance"):
            values = table[table["method"] == method].groupby("clip")[metric].mean().to_numpy()
            means = rng.choice(values, (500, len(values))).mean(axis=1)
            low, high = np.quantile(means, [0.025, 0.975])
            summary.append(
                {
                    "method": method,
                    "metric": metric,
                    "mean": values.mean(),
                    "low": low,
                    "high": high,
                    "n_clips": len(values),
                    "presentations": "all",
                }
            )
    return Scores(
        trials=table,
        frames=pd.DataFrame(frames),
        lags=pd.DataFrame(lags).groupby(["method", "lag"], as_index=False, sort=False).mean(),
        summary=pd.DataFrame(summary),
        mask_fraction=float(mask.mean()),
        info={"bootstrap": 500},
    )


def controls(left_out=("gray",)):
    """Controls of three clips, as they would be found for sound reconstructions; some were left out."""
    found = [
        ("behavior", "with behavior", "pixel_correlation", 0.62),
        ("behavior", "from brain signals alone", "pixel_correlation", 0.6),
        ("shuffled", "reconstruction", "pixel_correlation", 0.61),
        ("shuffled", "control", "pixel_correlation", 0.58),
        *(
            (name, condition, "pixel_correlation", value)
            for name in ("behavior_alone", "permuted")
            for condition, value in (
                ("reconstruction", 0.62),
                ("chance of the reconstruction", 0.1),
                ("control", 0.05),
                ("chance", 0.07),
            )
        ),
        *(("gray", name, "deviation", value) for name, value in (("gray screen", 8), ("reconstruction", 19))),
        *(
            ("judge", name, metric, value)
            for name, value in (("true movie", 0.3), ("reconstruction", 0.35), ("wrong clip", 0.02))
            for metric in ("response_correlation", "other_response_correlation")
        ),
    ]
    rows = [
        {"control": name, "condition": condition, "clip": f"clip {clip}", "metric": metric, "value": value + clip / 50}
        for name, condition, metric, value in found
        if name not in left_out
        for clip in range(3)
    ]
    verdicts = [
        {
            "control": name,
            "verdict": "left out" if name in left_out else verdict,
            "sentence": "None in the recording." if name in left_out else f"What {words} comes to: .62 & .05 < .1.",
        }
        for (name, words), verdict in zip(
            CONTROLS.items(), ["compare", "compare", "passed", "not passed", "passed", "passed"], strict=True
        )
    ]
    info = {"clips": 3, "reconstructed_clips": 3, "settings": {"clips": 3, "seed": 0}}
    return Controls(pd.DataFrame(rows), pd.DataFrame(verdicts), info)
