"""How the documentation is built; the tutorials are executed on the way."""

import shutil
from pathlib import Path

import nwbrecon

project = "nwbrecon"
author = "nwbrecon developers"
version = release = nwbrecon.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build", "generated/*.md"]

# Sphinx only looks below this folder
here = Path(__file__).parent
shutil.copytree(here.parent / "tutorials", here / "generated" / "tutorials", dirs_exist_ok=True)
exclude_patterns = ["_build"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900
# progress bars and what the work says of itself go there
nb_output_stderr = "remove"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = "nwbrecon"
html_theme_options = {"navigation_with_keys": True}
