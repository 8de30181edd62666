"""A few hundred broken files for every reader; the long run is benchmarks/fuzz_readers.py."""

import sys
from pathlib import Path

import pytest

from relocalize.formats.registry import FORMATS, read_registration

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from fuzz_readers import fuzz
from fuzz_samples import Sample, samples

INPUTS = 150


@pytest.fixture(scope="module")
def own() -> dict[str, list[Sample]]:
    return samples()


@pytest.mark.parametrize("name", FORMATS)
def test_whatever_is_read_is_a_registration_or_one_line(own, name):
    outcome = fuzz(name, own[name], range(INPUTS))
    assert outcome.inputs == INPUTS
    assert not outcome.crashes, outcome.example
    # The broken files are neither all harmless nor all hopeless: both ways were taken.
    assert outcome.read > INPUTS // 20
    assert outcome.refused > INPUTS // 20


@pytest.mark.parametrize("name", FORMATS)
def test_the_samples_themselves_are_read_whole_and_as_what_they_are(own, name, tmp_path):
    """So that the mutations start from something that the reader takes."""
    for number, sample in enumerate(own[name]):
        root = tmp_path / str(number)
        for file, data in sample.files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert FORMATS[name].detect(root / sample.entry), (name, sorted(sample.files))
        assert not FORMATS[name].read(root / sample.entry).problems
        assert read_registration(root / sample.entry).poses
