"""Draw ``demo.png``: for each test clip of a run, a frame that was shown and the same frame as it was reconstructed.

    nwbrecon demo --out demo
    python docs/images/make_demo.py demo

Of the showings of a clip the one of median score is taken, and of that the frame in the middle: neither the best nor
the worst.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nwbrecon import read_results

results = read_results(next(Path(sys.argv[1]).glob("*_desc-reconstruction_image.nwb")))
items, scores = results.reconstructions, results.scores
table = scores.trials[scores.trials["method"] == items.method]
rows = []
for _, showings in table.groupby("clip"):
    ordered = showings.sort_values("pixel_correlation")
    trial = int(ordered["trial"].iloc[len(ordered) // 2])
    rows.append(next(row for row, item in enumerate(items) if item.trials[0] == trial))

height, width = items.mask.shape
figure, axes = plt.subplots(2, len(rows), figsize=(10, 10 / len(rows) * height / width * 2 + 0.15), dpi=160)
dim = np.where(items.mask, 1.0, 0.45)
for column, row in enumerate(rows):
    frame = len(items[row].video) // 2
    axes[0, column].imshow(results.true_movies[row][frame], cmap="gray", vmin=0, vmax=255)
    axes[1, column].imshow(items[row].video[frame] * dim, cmap="gray", vmin=0, vmax=255)
for axis, name in zip(axes[:, 0], ("shown", "reconstructed"), strict=True):
    axis.set_ylabel(name)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
figure.subplots_adjust(0.025, 0.01, 0.999, 0.99, 0.03, 0.03)
figure.savefig(Path(__file__).with_name("demo.png"))
