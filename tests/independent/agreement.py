"""Agreement on votes in MT-bench's layout, written apart from lima: plain Python, no library.

    python tests/independent/agreement.py FILE.jsonl.gz...

Prints JSON: for each pair of groups the items, the pairs, the tie-discounted accuracy, the
agreement with and without ties, Cohen's kappa and Krippendorff's alpha.
"""

import gzip
import json
import sys
from itertools import combinations


def group(judge):
    if judge.startswith("author"):
        return "author"
    return "model" if judge.startswith("gpt4") else "crowd"


def read(paths):
    votes = {}
    for path in paths:
        with gzip.open(path, "rt") as lines:
            for line in lines:
                v = json.loads(line)
                item = (v["question_id"], v["turn"], *sorted([v["model_a"], v["model_b"]]))
                winner = v[v["winner"]] if v["winner"] in ("model_a", "model_b") else "tie"
                # Which of the two in alphabetical order won, so that values are the same for all.
                if winner != "tie":
                    winner = "first" if winner == item[2] else "second"
                votes.setdefault(item, {}).setdefault(v["judge"], winner)
    return votes


def measure(votes, one, two):
    pairs, units = [], []
    for item in votes.values():
        mine = [(j, w) for j, w in item.items() if group(j) == one]
        others = [(j, w) for j, w in item.items() if group(j) == two]
        if one == two:
            found = [(a[1], b[1]) for a, b in combinations(mine, 2)]
        else:
            found = [(a[1], b[1]) for a in mine for b in others]
        if found:
            pairs.append(found)
            units.append([w for _, w in (mine if one == two else mine + others)])
    flat = [p for found in pairs for p in found]
    if not flat:
        return None
    points = 0.0
    for a, b in flat:
        if a == b:
            points += 1
        elif "tie" in (a, b):
            points += 0.5
    decided = [(a, b) for a, b in flat if "tie" not in (a, b)]
    return {
        "items": len(pairs),
        "pairs": len(flat),
        "accuracy": points / len(flat),
        "with_ties": sum(a == b for a, b in flat) / len(flat),
        "without_ties": sum(a == b for a, b in decided) / len(decided),
        "kappa": kappa(flat if one != two else flat + [(b, a) for a, b in flat]),
        "alpha": alpha(units),
    }


def kappa(pairs):
    n = len(pairs)
    values = {v for p in pairs for v in p}
    observed = sum(a == b for a, b in pairs) / n
    expected = 0.0
    for v in values:
        expected += sum(a == v for a, _ in pairs) / n * (sum(b == v for _, b in pairs) / n)
    return (observed - expected) / (1 - expected)


def alpha(units):
    """By its definition as a ratio of mean disagreements, not by a coincidence matrix."""
    within, everything = 0.0, []
    for unit in units:
        if len(unit) > 1:
            everything += unit
            differing = sum(
                a != b for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j
            )
            within += differing / (len(unit) - 1)
    n = len(everything)
    counts = {v: everything.count(v) for v in set(everything)}
    between = sum(c * (n - c) for c in counts.values()) / (n - 1)
    return 1 - within / between


if __name__ == "__main__":
    votes = read(sys.argv[1:])
    groups = ["crowd", "author", "model"]
    found = {}
    for i, one in enumerate(groups):
        for two in groups[i:]:
            result = measure(votes, one, two)
            if result:
                found[f"{one}-{two}"] = result
    print(json.dumps(found, indent=1))
