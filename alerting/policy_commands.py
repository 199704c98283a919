"""`sizao policy`: who is told of what, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alerting import plan
from alerting.plan import Class, Fact, Policy
from alerting.policy_file import SHIPPED, read_policy, schema_text

app = typer.Typer(no_args_is_help=True, help="Who is told of what, after how long.")
_DEPENDS = {
    Class.LIMIT: Fact.MAIN,
    Class.FAULT: Fact.WHOLE_BUILDING,
}
"""Rows that may depend on a fact: shown with and without it."""


@app.command("check")
def check_command(
    files: Annotated[list[Path], typer.Argument(help="policies (YAML)")],
) -> None:
    """Exit 2 with every fault of the first file that has some."""
    for file in files:
        policy = read_policy(file)
        typer.echo(f"{file}: policy {policy.name}: {len(policy.rows)} classes, no fault")


@app.command("show")
def show_command(
    file: Annotated[Path, typer.Argument(help="a policy (YAML); left out: the shipped one")] = (
        SHIPPED
    ),
) -> None:
    """Every class by day and by night as the plan that follows from it."""
    typer.echo(text(read_policy(file)), nl=False)


@app.command("schema")
def schema_command() -> None:
    """JSON Schema of a policy, for editors."""
    typer.echo(schema_text(), nl=False)


def text(policy: Policy) -> str:
    """All plans of a policy, and its deadlines."""
    found = []
    for one in Class:
        for night in (False, True):
            for facts in ((), (_DEPENDS[one],)) if one in _DEPENDS else ((),):
                hour = "night" if night else "day"
                found.append(f"{one} by {hour}{''.join(f', {fact}' for fact in facts)}")
                made = plan.expand(policy, one, night=night, facts=frozenset(facts))
                found += [f"  {line}" for line in plan.lines(made)]
    found.append("deadlines")
    found += [
        f"  {due.within_s:>4} s  {one}  ({due.clause})" for one, due in policy.deadlines.items()
    ]
    return "\n".join(found) + "\n"
