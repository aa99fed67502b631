"""`lima-k8s recipes`."""

from typing import Any

import click

from lima.recipes.registry import RECIPES, describe
from lima.spec import STAGES, CellSpec
from lima_k8s.commands.options import format_option
from lima_k8s.terminal.output import write_json, write_table


@click.command("recipes")
@format_option("table", "json")
def command(output_format: str) -> None:
    """List the recipes: the paper's studies and two small ones."""
    rows = [_row(name) for name in RECIPES]
    if output_format == "json":
        write_json({"recipes": rows})
        return
    write_table(
        ("RECIPE", "RUNS", "ARMS", "STAGES", "DESCRIPTION"),
        [
            (r["name"], r["runs"], len(r["arms"]), ",".join(r["stages"]), r["description"])
            for r in rows
        ],
    )


def _row(name: str) -> dict[str, Any]:
    cells: tuple[CellSpec, ...] = RECIPES[name]()
    return {
        "name": name,
        "description": describe(RECIPES[name]),
        "runs": len(cells),
        "arms": list(dict.fromkeys(c.arm for c in cells)),
        "seeds": sorted({c.seed for c in cells}),
        "stages": [s for s in STAGES if any(getattr(c, s) for c in cells)],
    }
