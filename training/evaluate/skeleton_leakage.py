"""Who performed a UTD-MHAD skeleton: what linear probes tell before and after it is put on one drawn person's bones.

    python training/evaluate/skeleton_leakage.py --input Skeleton.zip

Logistic regression on standardised features, trained on trials 1 to 3 and scored on trial 4; the first frame of every
recording.
"""

import argparse
import zipfile

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from divid_diffusers.data.mhad import Recording
from divid_diffusers.data.mhad_skeleton import read_skeleton, retarget
from divid_diffusers.data.puppets import Appearance
from divid_diffusers.evaluation.statistics import wilson_interval


def features(skeleton: np.ndarray, person: Appearance) -> dict[str, np.ndarray]:
    before, after = skeleton[0, :, :2], retarget(skeleton, person)[0]
    return {
        "height of the figure, before": np.ptp(before[:, 1:], axis=0),
        "height of the figure, after": np.ptp(after[:, 1:], axis=0),
        "all joints, before": before.ravel(),
        "all joints, after (posture)": after.ravel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--input", required=True, help="Skeleton.zip, as the data set's site serves it.")
    args = parser.parse_args()
    person = Appearance.sample(0)
    recordings, rows = [], []
    with zipfile.ZipFile(args.input) as archive:
        for name in sorted(archive.namelist()):
            if recording := Recording.of(name):
                recordings.append(recording)
                rows.append(features(read_skeleton(archive.read(name), name), person))
    performer = np.array([recording.subject for recording in recordings])
    test = np.array([recording.trial == 4 for recording in recordings])
    print(f"{(~test).sum()} training and {test.sum()} test recordings, 8 performers\n")
    print("| from | performer told | 95 % interval |\n|---|---|---|")
    for name in rows[0]:
        values = np.stack([row[name] for row in rows])
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(values[~test], performer[~test])
        right = probe.predict(values[test]) == performer[test]
        low, high = wilson_interval(int(right.sum()), len(right))
        print(f"| {name} | {right.mean():.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main()
