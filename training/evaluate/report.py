"""
Tables and plots of what `evaluate.py` measured, from its results.json alone.

    python training/evaluate/report.py results/mhad-depth
"""

import json
import math
import sys
from pathlib import Path

from divid_diffusers.clips.writing import written_whole
from divid_diffusers.evaluation.bottleneck import plot_bottleneck
from divid_diffusers.evaluation.leakage import CELLS, leakage_table
from divid_diffusers.evaluation.swap_test import paired


def share(value: list[float]) -> str:
    """[share, low, high] in per cent."""
    middle, low, high = (100 * x for x in value)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def mean(value: list[float], digits: int = 2) -> str:
    """[mean, half width of the interval, None of a single value]."""
    middle, half = value
    return f"{middle:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def of(results: dict, section: str) -> dict[str, dict]:
    """What was measured of every model in a section."""
    sections = {name: model["sections"].get(section, {}) for name, model in results["models"].items()}
    return {name: found["result"] for name, found in sections.items() if "result" in found}


def swaps(results: dict) -> str:
    found = of(results, "swap")
    if not found:
        return ""
    rows = [["real clips", *scores(next(iter(found.values()))["real"])]]
    rows += [[f"{name}, reconstructions", *scores(result["reconstructions"])] for name, result in found.items()]
    rows += [[f"**{name}, swaps**", *scores(result["swaps"]["all"])] for name, result in found.items()]
    text = headline(found) + differences(found) + table(["judge on", "n", "static", "dynamic", "joint"], rows)
    rows = [
        [name, group, *scores(score)]
        for name, result in found.items()
        for group, score in result["swaps"].items()
        if group != "all"
    ]
    text += "\nSwaps by what their donors share:\n\n" + table(
        ["model", "pairs", "n", "static", "dynamic", "joint"], rows
    )
    rows = [
        [name, factor, row["n"], *(share(row[source]) for source in ("static donor", "dynamic donor", "neither"))]
        for name, result in found.items()
        for factor, row in result["follows"].items()
        if row
    ]
    head = ["model", "factor", "n", "static donor's", "dynamic donor's", "neither"]
    return text + "\nWhose class a swap shows, where the donors differ:\n\n" + table(head, rows)


def headline(found: dict) -> str:
    """Joint where donors differ in everything, by every judge; models and floors alike."""
    rows, judges = [], {judge: None for result in found.values() for judge in result.get("other_judges", {})}
    for name, result in found.items():
        row, harder = result["swaps"].get("different in both"), result["swaps"].get("harder")
        if row is None:
            continue
        others = result.get("other_judges", {})
        cells = [
            cell
            for judge in judges
            for cell in (
                (
                    share(others[judge]["swaps"]["different in both"]["joint"]),
                    f"{100 * others[judge]['agreement'][0]:.1f}",
                )
                if judge in others
                else ("–", "–")
            )
        ]
        realism = share(result["realism"]) if result.get("realism") else "–"
        rows.append([name, row["n"], share(row["joint"]), over_people(row), over_people(harder), *cells, realism])
    if not rows:
        return ""
    head = ["model", "n", "joint", "over people", "joint of harder pairs, over people"]
    head += [cell for judge in judges for cell in (f"joint, judged by {judge}", "agreement")] + [
        "told from real clips"
    ]
    return (
        "Swaps of donors that differ in all labels, right in all; the rows without a network are what tricks get:\n\n"
        + table(head, rows)
        + "\nThe first interval takes pairs as independent, the second draws people anew. Harder pairs: donors whose "
        "first frames differ "
        "most. Told from real clips: by a classifier, 50 where it cannot.\n\n"
    )


def differences(found: dict) -> str:
    """By how much the first model is ahead of each other one, and of each floor, over people."""
    (name, first), *others = found.items()
    judges = ["", *first.get("other_judges", {})]
    asked = [("different in both", judge) for judge in judges] + [("harder", "")]
    rows = [[other, *(difference(paired(first, result, *each)) for each in asked)] for other, result in others]
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    if not rows:
        return ""
    head = [f"{name} minus", "joint", *(f"judged by {judge}" for judge in judges[1:]), "harder pairs"]
    return (
        "The same in pairs, with intervals over people; one that holds 0 tells no difference:\n\n"
        + table(head, rows)
        + "\n"
    )


def difference(value: tuple[float, float, float] | None) -> str:
    if value is None:
        return "–"
    middle, low, high = (100 * each for each in value)
    return f"{middle:.1f} " + (f"[{low:.1f}, {high:.1f}]" if math.isfinite(high) else "(too few people)")


def over_people(row: dict | None) -> str:
    if row is None:
        return "–"
    middle, low, high = row.get("joint_over_people") or [row["joint"][0], None, None]
    return f"{100 * middle:.1f}" + (" (too few people)" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]")


def scores(row: dict) -> list:
    return [row["n"], *(share(row[kind]) for kind in ("static", "dynamic", "joint"))]


def reconstructions(results: dict) -> str:
    rows = []
    for name, result in of(results, "reconstruction").items():
        for source in ("from pure noise", "from pure noise, the same clips", "from inverted noise"):
            if row := result.get(source):
                # A model without noise decodes once, from its codes.
                label = source if "from inverted noise" in result else "from codes"
                rows.append([name, label, *measured(row), f"{result['seconds_per_clip']:.2f}"])
    head = ["model", "decoded", "n", "PSNR, dB", "SSIM", "motion error", "distance in judge's features", "s per clip"]
    return table(head, rows) if rows else ""


def measured(row: dict) -> list:
    distance = row.get("perceptual_distance")
    figures = [mean(row["psnr"]), mean(row["ssim"], 3), mean(row["motion_error"])]
    return [row["n"], *figures, mean(distance, 3) if distance else "–"]


def true_swaps(results: dict) -> str:
    rows = []
    measured_models = of(results, "true_swap")
    for name, result in measured_models.items():
        rows.append([name, *measured(result["swaps"]), *kept(result["swaps"])])
        copies = {donor: result[donor] for donor in ("copy of the static donor", "copy of the dynamic donor")}
    if not rows:
        return ""
    rows += [[name, *measured(row), *kept(row)] for name, row in copies.items() if name not in measured_models]
    head = [
        "model",
        "n",
        "PSNR, dB",
        "SSIM",
        "motion error",
        "distance in judge's features",
        "identity kept",
        "motion kept",
        "nearer to the static donor's own clip",
    ]
    return table(head, rows)


def kept(row: dict) -> list[str]:
    names = ("identity_kept", "motion_kept", "static_donor_shown")
    return [share(row[name]) if row.get(name) else "–" for name in names]


def leakage(results: dict) -> str:
    found = of(results, "leakage")
    if not found:
        return ""
    rows = []
    for name, result in found.items():
        total, orthogonality = result["leakage"], result["orthogonality"]
        cells = [f"{100 * total['accuracy']:.1f}", f"{100 * total['above_chance']:.1f}"]
        rows.append([name, *probed(result), *cells, "–" if orthogonality is None else f"{orthogonality:.2g}"])
    rows += [["raw pixels", *probed(each["floors"]), "–", "–", "–"] for each in found.values() if each["floors"]]
    text = table(["model", *CELLS, "leakage", "above chance", "L_orth"], rows)
    return text + "".join(f"\n### {name}\n\n{leakage_table(result)}" for name, result in found.items())


def probed(result: dict) -> list[str]:
    return [share([result["cells"][cell][name] for name in ("accuracy", "low", "high")]) for cell in CELLS]


def priors(results: dict) -> str:
    rows = []
    for name, result in of(results, "prior").items():
        for kept in ("dynamic_kept", "static_kept"):
            for factor, (value, spread) in result[kept].items():
                cells = [mean([value[k], spread[k]], 3) for k in value]
                rows.append([name, kept.replace("_", " "), factor, *cells])
    return table(["model", "code", "factor", "Acc", "IS", "H(y\\|x)", "H(y)"], rows) if rows else ""


def label_free(results: dict) -> str:
    rows = []
    for name, result in of(results, "label_free").items():
        for factor in ("identity", "motion"):
            row = result[factor]
            cells = [mean([row["mean"], row["half_width"]], 3), *(number(row[name]) for name in ("floor", "ceiling"))]
            unscored = row["unscored_donor_frames"] + row["unscored_output_frames"]
            rows.append(
                [
                    name,
                    factor,
                    results["settings"][f"{factor}_model"],
                    *cells,
                    f"{row['num_scored']}/{row['num_clips']}",
                    unscored,
                ]
            )
    head = ["model", "distance", "features", "mean", "floor", "ceiling", "clips scored", "frames unscored"]
    return table(head, rows) if rows else ""


def pictures(results: dict, folder: Path) -> str:
    text = ""
    for name, result in of(results, "bottleneck").items():
        plot_bottleneck(result).savefig(folder / f"bottleneck_{name}.png", dpi=80)
        text += f"![{name}: which t needs which token](bottleneck_{name}.png)\n\n"
    for name, result in of(results, "routing").items():
        for side, picture in result["pictures"].items():
            first, *_, last = result["weight_on_static"][side]
            text += (
                f"![{name}: at {side} x {side} pixels read s (red) or d (blue); frame, map, both; first, middle and "
                "last step; "
                f"mean weight on s {first:.2f} at the first step, {last:.2f} at the last]({picture})\n\n"
            )
    return text


PARTS = {
    "Swap test": swaps,
    "Leakage": leakage,
    "Reconstruction": reconstructions,
    "Swaps against the true clip": true_swaps,
    "One code kept, the other drawn from the prior": priors,
    "Distances without labels": label_free,
}


def write_report(folder: Path) -> str:
    """Writes tables.md and the plots beside results.json, and returns the text."""
    results = json.loads((folder / "results.json").read_text())
    shared = results["settings"]
    judge = shared["judge"]["describe"] if shared["judge"] else "No judge"
    others = "".join(f"{name}: {each['describe']}.\n" for name, each in shared.get("other_judges", {}).items())
    models = [
        [
            name,
            f"{model['parameters'] / 1e6:.2f} M" if model["parameters"] else "–",
            f"`{model.get('fingerprint', 'not known')}`",
        ]
        for name, model in results["models"].items()
    ]
    split = "validation" if shared.get("split") == "validation" else "held-out"
    counts = (
        f"{shared['num_clips']} {split} clips of {shared['num_frames']} frames, {shared['num_pairs']} ordered pairs"
    )
    text = f"""# {shared["dataset"]}

{counts}, seed {shared["seed"]}; accuracies in %, 95 % intervals.
{judge[0].upper()}{judge[1:]}.
{others}
{table(["model", "parameters", "fingerprint"], models)}"""
    for heading, part in PARTS.items():
        if body := part(results):
            text += f"\n## {heading}\n\n{body}"
    if body := pictures(results, folder):
        text += f"\n## Which token is needed when, and where\n\n{body}"
    left_out = {
        (section, found["left_out"]): None
        for model in results["models"].values()
        for section, found in model["sections"].items()
        if "left_out" in found
    }
    if left_out:
        text += "\n## Left out\n\n" + "".join(f"- {section}: {reason}\n" for section, reason in left_out)
    text += "\n" + ", ".join(f"{name} {value}" for name, value in results["environment"].items()) + ".\n"
    for name, model in results["models"].items():
        for section, found in model["sections"].items():
            if other := found.get("environment"):
                differing = [
                    f"{key} {value}" for key, value in other.items() if results["environment"].get(key) != value
                ]
                text += f"\n{name}, {section}: with {', '.join(differing)}.\n"
    with written_whole(folder / "tables.md") as partial:
        partial.write_text(text)
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "results.json").is_file():
        raise SystemExit(f"usage: {Path(sys.argv[0]).name} FOLDER, one in which evaluate.py left a results.json")
    print(write_report(Path(sys.argv[1])))
