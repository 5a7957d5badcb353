"""The command line as a user meets it: in a process of its own where that matters."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from nwbrecon import __version__
from nwbrecon.cli.app import app

COMMANDS = (
    "demo",
    "run",
    "inspect",
    "simulate",
    "train",
    "reconstruct",
    "evaluate",
    "report",
    "export",
    "reproduce",
    "import-sensorium",
    "cache",
)
HEAVY = ("torch", "pynwb", "hdmf", "h5py", "dandi", "matplotlib", "pandas", "scipy", "rich")


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def loaded_by(statement):
    code = f"{statement}\nimport json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import nwbrecon") == []


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_loads_nothing_heavy(command):
    arguments = [*([command] if command else []), "--help"]
    statement = (
        "from nwbrecon.cli.app import app\n"
        "try:\n"
        f"    app({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
    )
    assert loaded_by(statement) == []


def test_help_names_every_command_in_whole_sentences():
    result = call("--help")
    assert result.exit_code == 0
    listed = [line.split(maxsplit=1) for line in result.stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert [name for name, _ in listed] == list(COMMANDS)
    assert not any(text.endswith("...") for _, text in listed)


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, __version__)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["inspect"], ["run", "a.nwb"], ["export", "a.nwb"], ["simulate", "--x"]]
)
def test_a_wrong_command_line_ends_with_status_2(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_error_is_one_paragraph_and_status_1(tmp_path):
    result = call("inspect", tmp_path / "no.nwb")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.strip().splitlines() == [f"Error: There is no file {tmp_path}/no.nwb. Check the path."]


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch, tmp_path):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("nwbrecon.pipeline.survey.inspect_all", broken)
    assert isinstance(call("inspect", tmp_path / "a.nwb").exception, ZeroDivisionError)


def test_stopping_says_what_was_kept(monkeypatch, tmp_path):
    def stopped(*_, **__):
        stop = KeyboardInterrupt()
        stop.add_note("The first half is kept in out.")
        raise stop

    monkeypatch.setattr("nwbrecon.pipeline.survey.inspect_all", stopped)
    result = call("inspect", tmp_path / "a.nwb")
    assert result.exit_code == 130
    assert result.stderr.strip() == "Stopped. The first half is kept in out."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "alignment.frame_rate=0"], "alignment.frame_rate is 0: input should be greater than 0."),
        (["--set", "alignment.fps=30"], "There is no setting alignment.fps."),
        (["--set", "alignment.frame_rate"], "NAME=VALUE was expected."),
        (["--set", "alignment.frame_rate=[1"], "cannot be read"),
        (["--frame-size", "36"], "such as 36x64."),
        (["--config", "no.yaml"], "The settings file no.yaml cannot be read"),
        (["--signal", "loud"], "alignment.responses.signal is 'loud'"),
    ],
)
def test_settings_are_checked_before_anything_is_opened(arguments, words):
    result = call("inspect", "there-is-no-such.nwb", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "no-such" not in result.stderr
