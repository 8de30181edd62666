"""The command line from outside: text, JSON, one-line errors, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relocalize import Place
from relocalize.cli import main as cli


def relocalize(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


def test_info_says_in_text_what_an_empty_place_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Place.create(tmp_path / "kitchen")
    code, out, err = relocalize(capsys, "info", tmp_path / "kitchen")
    assert (code, err) == (0, "")
    assert out.startswith("Place kitchen\n")
    assert "no map yet: relocalize map PLACE" in out
    assert "up axis unknown; unit: map unit" in out


def test_info_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Place.create(tmp_path / "kitchen")
    code, out, _ = relocalize(capsys, "info", tmp_path / "kitchen", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["name"] == "kitchen"
    assert facts["map"] is None
    unknown = dict.fromkeys(("up", "up_from", "scale_from", "enu_origin"))
    assert facts["frame"] == {"unit": "map unit", **unknown}


def test_info_for_a_bug_report_has_versions_and_no_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Place.create(tmp_path / "kitchen")
    code, out, _ = relocalize(capsys, "info", tmp_path / "kitchen", "--debug")
    facts = json.loads(out)
    assert code == 0
    assert facts["machine"]["packages"]["numpy"]
    assert facts["place"]["frame"] == {"up": None, "unit": "map unit"}
    assert "kitchen" not in out
    assert str(tmp_path) not in out
    code, out, _ = relocalize(capsys, "info", "--debug")
    assert (code, json.loads(out)["place"]) == (0, None)
    code, _, err = relocalize(capsys, "info")
    assert code == 1
    assert "name a Place folder" in err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_fits_a_screen(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = relocalize(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 55
    assert "{None}" not in out
    if name in ("map", "train"):
        assert "--keyframes.motion" not in out
        _, everything, _ = relocalize(capsys, name, "--help-all")
        left_out = int(out.splitlines()[-1].split()[0])
        assert everything.count("--") >= out.count("--") + left_out > out.count("--") + 20


def test_a_known_error_is_one_line_on_stderr_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = relocalize(capsys, "info", tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert str(tmp_path) in err
    assert err.count("\n") == 1


def test_a_damaged_place_is_one_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "place.json").write_text("{ not json")
    code, _, err = relocalize(capsys, "info", tmp_path)
    assert code == 1
    assert "damaged" in err
    assert err.count("\n") == 1


def test_the_list_of_commands_needs_no_command_and_says_what_each_does() -> None:
    for name, said in cli.COMMANDS.items():
        assert (cli.command_class(name).__doc__ or "").splitlines()[0] == said, name
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "relocalize", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"numpy", "pycolmap", "scipy", "cv2", "torch", "rich", "tyro"}
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["localise", "kitchen", "photo.jpg"]])
def test_what_is_no_command_is_exit_code_2_and_names_those_there_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = relocalize(capsys, *arguments)
    assert (code, out) == (2, "")
    assert all(name in err for name in cli.COMMANDS)
    if "localise" in arguments:
        assert err.endswith("error: there is no command 'localise'; did you mean localize?\n")


# A shell that starts the tests in the background has them ignore Ctrl-C, and so their children;
# a user's shell does not.
_HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_how_to_go_on(signal_number: signal.Signals) -> None:
    # A command of ours that waits, so that the signal arrives while it runs.
    waiting = (
        "import dataclasses, time\n"
        "from relocalize.cli import main as cli\n"
        "@dataclasses.dataclass\n"
        "class Wait:\n"
        "    def run(self):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(30)\n"
        "cli.run_command(Wait)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _HEARS_CTRL_C + waiting],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "run the same command again to resume" in err
    assert "Traceback" not in err
    assert time.monotonic() - started < 15


def test_pycolmap_does_not_decide_what_ends_the_process() -> None:
    # Importing it replaces what SIGTERM does by a native stack trace; ours undoes that, whether
    # the program has a handler of its own or none.
    ended = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    own = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n"
    for before, code in (("", -signal.SIGTERM), (own, 7)):
        done = subprocess.run(
            [sys.executable, "-c", f"{before}import relocalize.geometry\n{ended}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    Place.create(tmp_path / "kitchen")
    command = "from relocalize.cli.main import main; main()"
    # Buffered, as in a user's shell: the pipe breaks when the buffer is written out at the end.
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", command, "info", str(tmp_path / "kitchen")],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=buffered,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
