"""`relocalize train` from outside: presets and fields, names, what it prints, a second time."""

import json
import shutil
import subprocess
import sys

import pytest

from relocalize.cli.main import main
from relocalize.localization.training_regressor import training_folder
from relocalize.place import Place
from relocalize.verbs.train import stored_settings
from rendered_walk import SPLIT, copy_of_walk

QUICK = [
    "--input.width", "128", "--input.height", "96", "--copies", "0", "--optimizer.epochs", "3",
    "--backbone.stages", "group5", "--backbone.channels", "16", "--validation-share", "0.2",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory) -> Place:
    return copy_of_walk(made_once, tmp_path_factory.mktemp("walk"))


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_it_trains_prints_validation_apart_and_is_done_the_second_time(place, capsys):
    command = ["train", place.root, "--name", "quick", "--seed", "5", *QUICK]
    assert run(*command) == 0
    shown = capsys.readouterr()
    folder = place.localizer_dir(f"quick.{SPLIT}")
    assert "not trained on): median" in shown.out
    assert f"relocalize evaluate {place.root} --split {SPLIT} --localizer quick" in shown.out
    assert str(folder) in shown.out
    assert not list((place.root / "localizers").glob(".training-*"))
    stored = json.loads((folder / "localizer.json").read_text())
    assert stored["settings"]["seed"] == 5
    assert stored["settings"]["optimizer"]["epochs"] == 3
    stamp = (folder / "localizer.json").stat().st_mtime_ns
    settings = stored_settings(folder)
    assert settings is not None
    left = training_folder(place, place.split(SPLIT), settings)
    left.mkdir()  # as after a kill at the very end
    assert run(*command, "--json") == 0
    assert not left.exists()
    shown = capsys.readouterr()
    assert "is trained with these settings" in shown.err
    facts = json.loads(shown.out)
    assert facts["name"] == "quick"
    assert facts["split"] == SPLIT
    assert facts["validation"] == stored["validation"]
    assert (folder / "localizer.json").stat().st_mtime_ns == stamp


def test_presets_bring_their_numbers_and_fields_override_them(capsys):
    assert run("train", "--preset", "posenet-2015-resnet18", "--help-all") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: resnet18)" in shown
    assert "(default: 0.0625)" in shown
    assert run("train", "--help-all") == 0
    assert "(default: efficientnet_lite0)" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--preset", "posenet-1999"], "no preset 'posenet-1999'; there are default"),
        (["--name", "structure"], "another localizer's name"),
        (["--name", "../up"], "cannot name a localizer"),
        (["--split", "none-such"], "no split 'none-such'"),
        (["--all-images", "--split", SPLIT], "exclude each other"),
        (["--optimizer.learning-rate", "-1"], "optimizer.learning_rate is -1"),
        (["--device", "cuda"], "sees no cuda device"),
        (["--backbone.weights", "no-such-file.pth"], "no-such-file.pth"),
        (["--backbone.name", "alexnet"], "alexnet"),
        (["--validation-share", "0.0001", "--minutes", "nan"], "minutes"),
    ],
)
def test_what_cannot_be_trained_is_one_line(place, capsys, arguments, says):
    if "cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is one here")
    assert run("train", place.root, *QUICK, *arguments) == 1
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in shown.err


def test_settings_that_cannot_be_trained_are_refused_before_anything_is_written(place, tmp_path):
    import torch

    root = tmp_path / "walk"
    shutil.copytree(place.root, root, ignore=shutil.ignore_patterns("splits", "localizers", ".*"))
    before = sorted(root.rglob("*"))
    no_such = "mps" if torch.cuda.is_available() else "cuda"
    for arguments in (["--device", no_such], ["--backbone.weights", "no-such-file.pth"]):
        assert run("train", root, *QUICK, *arguments) == 1
    assert sorted(root.rglob("*")) == before


def test_what_is_trained_answers_without_torch(place):
    assert run("train", place.root, "--name", "quick", "--seed", "5", *QUICK) == 0
    photo = place.image_path(place.split(SPLIT).train[0])
    command = ["localize", str(place.root), str(photo), "--localizer", "quick"]
    code = (
        "import sys\nfrom relocalize.cli.main import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert photo.name in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_without_torch_there_is_one_line_that_names_the_extra(place, capsys, monkeypatch):
    monkeypatch.setattr("relocalize.regression.find_spec", lambda name: None)
    assert run("train", place.root) == 1
    assert 'pip install "relocalize[train]"' in capsys.readouterr().err
    assert run("evaluate", place.root, "--localizer", "regressor") == 1


@pytest.mark.slow
def test_several_processes_train_one_regressor(place):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    train = ["-m", "relocalize", "train", str(place.root), "--name", "two", *QUICK, "--json"]
    done = subprocess.run(
        [*torchrun, *train],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout)  # one process speaks
    assert facts["training"]["epochs"] == 3
    assert (place.localizer_dir(f"two.{SPLIT}") / "weights.safetensors").is_file()
