"""`relocalize-synthesize OUT`: a corridor that is rendered with exactly known truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from relocalize.cli.main import run_command
from relocalize_synthetic import CorridorSettings, write_corridor


@dataclass(frozen=True)
class Synthesize:
    """Render a synthetic corridor: a walk-through video, photos by a second camera, true poses."""

    out: tyro.conf.Positional[Path]
    """The folder to make; it must not exist yet, or be empty."""
    seed: int = 0
    """Another number is another corridor: other posters and papers, another walk."""
    small: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """One short arm and small images, in seconds."""
    photos: int | None = None
    """Number of photos by the second camera; default 30 (6 with --small)."""
    and_back: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Turn round at the far end and walk back to where the walk began; the photos stay the same."""
    focal_in_exif: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the second camera's focal length into its photos' EXIF."""

    def run(self) -> int:
        """Render it and print where it is."""
        settings = (
            CorridorSettings.small(seed=self.seed)
            if self.small
            else CorridorSettings(seed=self.seed)
        )
        visitor = replace(
            settings.visitor,
            focal_in_exif=self.focal_in_exif,
            count=settings.visitor.count if self.photos is None else self.photos,
        )
        walk = settings.walk
        if self.and_back:
            walk = replace(walk, return_m=settings.first_arm + settings.second_arm)
        truth = write_corridor(self.out, settings=replace(settings, walk=walk, visitor=visitor))
        print(
            f"{self.out}: walk.mp4 ({len(truth.walk_poses)} frames), "
            f"visitor/ ({len(truth.visitor_poses)} photos), walk_poses.txt, visitor_poses.txt, "
            "truth.json"
        )
        return 0


def main() -> None:
    """Parse and run, as the commands of `relocalize` do."""
    run_command(lambda: tyro.cli(Synthesize, prog="relocalize-synthesize"))


if __name__ == "__main__":
    main()
