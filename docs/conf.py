"""How the documentation is built: tutorials are executed, and figures and tables come from a run that is made here."""

import shutil
from pathlib import Path

import nwbrecon
from nwbrecon.config import RunSettings, SimulationSettings, load_settings
from nwbrecon.pipeline.demo import demo
from nwbrecon.progress import progress_shown

project = "nwbrecon"
author = "nwbrecon developers"
version = release = nwbrecon.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build", "generated/example"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900
# progress bars, and what the work says of itself
nb_output_stderr = "remove"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "nwbrecon"
html_theme_options = {"navigation_with_keys": True}

here = Path(__file__).parent
generated = here / "generated"
# Sphinx looks only below its own folder
shutil.copytree(here.parent / "tutorials", generated / "tutorials", dirs_exist_ok=True)

# a run at half size, which pages read figures and tables from
with progress_shown(False):
    demo(
        generated / "example",
        load_settings(
            RunSettings,
            alignment__frame_rate=15,
            alignment__frame_size=(18, 32),
            encoder__channels=24,
            results__include_stimulus=True,
        ),
        SimulationSettings(rois=150, planes=2, minutes=4, test_clips=3, test_clip_seconds=4, test_repeats=5),
    )
