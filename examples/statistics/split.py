"""Splits the breast cancer table that scikit-learn bundles into one CSV file a site, as if each had its own patients.

Run it with scikit-learn installed, in an environment of its own (fedparty does not need it):

    pip install scikit-learn
    python split.py --sites 10000 9999
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

COLUMNS = {
    "radius": "mean radius",
    "texture": "mean texture",
    "area": "mean area",
    "smoothness": "mean smoothness",
    "concavity": "mean concavity",
}


def main() -> None:
    """Write ``data/patients-SITE.csv`` for every site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", nargs="+", default=["10000", "9999"], help="party ids")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "data", help="folder of the files")
    arguments = parser.parse_args()
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = [str(name) for name in table.feature_names]
    places = [names.index(name) for name in COLUMNS.values()]
    arguments.to.mkdir(parents=True, exist_ok=True)
    for index, site in enumerate(arguments.sites):
        path = arguments.to / f"patients-{site}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["patient", *COLUMNS, "diagnosis"])
            for row in range(index, len(table.data), len(arguments.sites)):
                diagnosis = str(table.target_names[table.target[row]])
                writer.writerow([f"p{row:03}", *(f"{table.data[row][place]:g}" for place in places), diagnosis])
        print(path)


if __name__ == "__main__":
    main()
