"""How a results file is laid out: the names and words that the writer and the reader share."""

from __future__ import annotations

import re

import pandas as pd

__all__ = ["COLUMNS", "CONVERGENCE", "KEYS", "MODULE", "SCHEMA_VERSION", "score_name", "series_name"]

SCHEMA = "nwbrecon results"
SCHEMA_VERSION = 2

MODULE = "reconstruction"
MEAN = "reconstructed_movie"
STD = "reconstructed_movie_std"
TRUE = "true_movie"
TRIALS = "reconstruction_trials"
MASKS = "pixel_masks"
MASK = "evaluation_mask"
COVERAGE = "coverage"
HISTORY = "optimization_history"
SNAPSHOTS = "optimization_snapshots"
SUMMARY = "score_summary"
LAGS = "lag_correlation"
FREQUENCIES = "frequency_correlation"
CONTROLS = "controls"
VERDICTS = "control_verdicts"
BEHAVIOR = "inferred_behavior"
ROIS = "rois"
GROUPS = "response_groups"
ENCODER_SUMMARY = "encoder_score_summary"
TRAINING = "encoder_training"
PROVENANCE = "provenance"

MODULE_DESCRIPTION = (
    "Movies reconstructed from neural responses by nwbrecon, with information maps, scores and provenance. All movies "
    "are ImageSeries of shape (frame, row, column): axis 0 is time, axis 1 the rows of the screen from top to bottom, "
    "axis 2 its columns from left to right. The reconstructed clips stand one after the other; each row of "
    "'reconstruction_trials' says where its clip begins (first_frame) and how long it is (n_frames)."
)
AXES = "Axes: (frame, row from the top, column from the left)."

# what belongs to a trial or frame whatever the method
KEYS = ("clip", "trial", "repeat", "onset", "n_frames", "method", "frame", "time")

# how the optimization of a clip ended, by the names in its info and in the table of trials
CONVERGENCE = {
    "converged": "converged",
    "iterations": "iterations",
    "evaluations": "evaluations",
    "prior": "prior",
    "prior_weight": "prior_weight",
    "seconds": "duration",
}

COLUMNS = {
    "clip": "Identity of the clip that was shown",
    "trials": "Labels of the trials of the source whose responses went in, separated by spaces",
    "repeat": "Which showing of the clip it was, 0 for the first",
    "split": "Which split the clip belongs to; nothing that learned has seen a test clip",
    "first_frame": "Index of the clip's first frame on axis 0 of the movies",
    "n_frames": "Number of frames",
    "pixel_correlation": "Pearson correlation with the true movie over all pixels of the mask and all frames",
    "dynamic_correlation": "The same, after taking each pixel's mean over time from both movies",
    "frame_correlation": "Mean over frames of the Pearson correlation over the pixels of the mask",
    "lag": "Lag of best match in frames; positive where the reconstruction trails the true movie",
    "chance": "Mean pixel correlation with the other test clips",
    "trial": "Row label of the trial in the source's table of trials",
    "method": "What made the reconstruction",
    "metric": "Name of the score",
    "mean": "Mean over clips, or over ROIs in scores of the encoder",
    "low": "Lower end of the 95 % interval",
    "high": "Upper end of the 95 % interval",
    "n_clips": "Number of clips",
    "presentations": "Which showings count: all, first, or later",
    "reconstruction": "Row of 'reconstruction_trials'",
    "iteration": "Iteration of the optimization, 0 for its start",
    "objective": "What is minimized: negative log-likelihood plus negative log-prior",
    "negative_log_likelihood": "Misfit of the predicted to the recorded responses",
    "negative_log_prior": "How unlike a natural movie it is",
    "held_out": "Negative log-likelihood of ROIs that were kept out of the fit",
    "seconds": "Seconds since the start of the optimization",
    "frames": "The movie at that iteration, uint8 gray levels 0-255. " + AXES,
    "ceiling": "Pixel correlation that noise from showing to showing would allow: the root of the correlation between "
    "the reconstructions of different showings; NaN where the clip was shown once",
    "domain": "Whether frequencies are in time (Hz) or in space (cycles per pixel)",
    "from_frequency": "Lower edge of the band, not in it",
    "to_frequency": "Upper edge of the band",
    "converged": "Whether the optimization ended because nothing improved any more, not for want of iterations",
    "iterations": "Number of iterations of the optimization",
    "evaluations": "Number of evaluations of the objective",
    "prior": "Prior that was used",
    "prior_weight": "Factor on the negative log-prior",
    "duration": "How long the reconstruction took, in seconds",
    "group": "Response group (imaging plane) of the ROI",
    "roi_id": "Id of the ROI in the recording's own table",
    "area": "Brain area, as the recording has it",
    "depth": "Depth, as the recording has it, in micrometers",
    "x": "First coordinate of the ROI, as the recording has it",
    "y": "Second coordinate of the ROI, as the recording has it",
    "z": "Third coordinate of the ROI, as the recording has it",
    "receptive_field_row": "Center of the receptive field in pixels from the center of the top row downwards",
    "receptive_field_column": "Center of the receptive field in pixels from the center of the left column to the right",
    "receptive_field_size": "Root of the mean squared distance from the center of the receptive field, weighted by "
    "squared sensitivity, in pixels: the standard deviation of a Gaussian field",
    "reliability": "Correlation of the responses to a showing with the mean over the other showings of the same clip; "
    "NaN where no clip was shown twice",
    "validation_correlation": "Correlation of predicted and recorded responses over the validation clips",
    "dispersion": "Variance of the residuals over what the likelihood expects; its inverse weighs the ROI in the fit",
    "single_trial_correlation": "Correlation of predicted and recorded responses over all samples of the test clips",
    "correlation_to_average": "Correlation of predicted and recorded responses, both averaged over the showings of "
    "each test clip; NaN where no test clip was shown twice",
    "normalized_correlation": "Correlation to average over its ceiling (CCnorm of Schoppe et al. 2016); NaN where the "
    "signal power is not positive",
    "bits": "Bits per unit of activity by which the prediction is ahead of the mean rate, over the test clips",
    "oracle": "Correlation of a showing of a test clip with the mean of the others; NaN where none was shown twice",
    "single_trial_ceiling": "Correlation of a showing with what showings have in common, which no account of the "
    "responses by the movie alone can exceed",
    "average_ceiling": "The same for the mean over showings",
    "n_rois": "Number of ROIs that the mean is over",
    "scale": "What responses were divided by before they were predicted, in units of the recording's signal",
    "epoch": "Passes over the training clips, 0 before the first",
    "member": "Number of the encoder in the ensemble",
    "loss": "Mean loss over the epoch; NaN before the first",
    "rois": "The ROIs of the group",
    "predicted": "Response that the encoder predicts for the reconstructed movies, at the 'sampled_at' of the ROI's "
    "group in 'response_groups', in units of 'scale': times it, in units of the recording's signal; NaN where the "
    "prediction lacks its past",
    "sampled_at": "When each predicted sample was taken, in seconds on the session clock",
    "control": "Which control: 'behavior' (told or withheld), 'shuffled' (cells across repeats), 'behavior_alone', "
    "'permuted' (labels of ROIs), 'gray' (screen), 'judge' (an encoder that took no part)",
    "condition": "What was measured: the reconstruction, the control's own movie, chance, ...",
    "verdict": "'passed', 'not passed', 'compare' where there is nothing to pass, or 'left out'",
    "sentence": "What was found, or why the control was left out",
    "path": "What it is: a JSONPath (RFC 9535) without its leading '$.'",
    "value": "Its value as JSON",
}


def describe(column: str) -> str:
    """Describe a column or series of scores: over the whole frame where its name ends in ``_full``."""
    if column in COLUMNS:
        return COLUMNS[column]
    for end, words in (("_low", "Lower"), ("_high", "Upper")):
        if column.endswith(end):
            return f"{words} end of the 95 % interval of {column.removesuffix(end)} over stretches of the clip"
    if column.endswith("_full"):
        return f"{describe(column.removesuffix('_full'))}, over the whole frame instead of the mask"
    return column.replace("_", " ").capitalize()


def metrics(table: pd.DataFrame) -> list[str]:
    """List the columns of a table of scores that are scores, not keys."""
    return [str(column) for column in table.columns if column not in KEYS]


def slug(name: str) -> str:
    """Make a name that NWB allows, which has neither slash nor colon."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_")


def score_name(metric: str, method: str, main: str) -> str:
    """Name the column or series of a score: the metric, followed by the method where it is not the main one."""
    return metric if method == main else f"{metric}_{slug(method)}"


def series_name(baseline: str) -> str:
    """Name the movie of a baseline."""
    return f"{slug(baseline)}_movie"
