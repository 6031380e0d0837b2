"""How large the container images are, and how long the file takes that brings them to a machine without a registry.

Owns its figures. Builds the images first, from what Docker has cached; without Docker it says so and measures nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from figures import Figure, show

from fedparty.cli.main import main as fedparty
from fedparty.config.images import MYSQL, PARTY, PROXY, image_name
from fedparty.deploy.images import LocalImages
from fedparty.deploy.images.local import NoDockerError

TAG = "benchmark"
LIMITS_MIB = {PARTY: 350.0, PROXY: None, MYSQL: None}
MIB = 2**20


def measure_sizes(local: LocalImages) -> Iterator[Figure]:
    """Each image, uncompressed, what they share counted with each."""
    for name, limit in LIMITS_MIB.items():
        size = local.size([image_name(name, registry=None, tag=TAG)]) / MIB
        yield Figure(f"image {name}, uncompressed", size, "MiB", limit)


def measure_archive(local: LocalImages, folder: Path) -> Iterator[Figure]:
    """One file with all of them."""
    file, names = folder / "release.tar", [image_name(name, registry=None, tag=TAG) for name in LIMITS_MIB]
    start = perf_counter()
    local.save(names, file)
    yield Figure("images save, these three", perf_counter() - start, "s")
    yield Figure("its file", file.stat().st_size / MIB, "MiB", note="what they share is in it once")
    start = perf_counter()
    local.load(file)
    yield Figure("images load, layers present", perf_counter() - start, "s")


def main() -> int:
    """Print every figure; 1 if one falls short."""
    local, is_reached = LocalImages(), True
    try:
        local.find(image_name(PARTY, registry=None, tag=TAG))
    except NoDockerError as exc:
        print(f"image sizes: not measured: {exc.message}")
        return 0
    if fedparty(["images", "build", *LIMITS_MIB, "--tag", TAG]):
        return 1
    with tempfile.TemporaryDirectory(prefix="fedparty-bench-") as folder:
        for measured in (measure_sizes(local), measure_archive(local, Path(folder))):
            for figure in measured:
                show([figure])
                is_reached = is_reached and figure.is_reached
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
