"""`snapshot export|import`: a snapshot as one file. Both are the machine's own work, like set-up's."""

from __future__ import annotations

import typer

from atoll.cli.options import PASSED_ON, hand_over

snapshot_app = typer.Typer(help="Take snapshots to another machine.", no_args_is_help=True)


@snapshot_app.command("export", context_settings=PASSED_ON)
def export(context: typer.Context) -> None:
    """Write a snapshot into one file: memory, processes and files, compressed. `-` is standard output.

    What is in the memory is in the file. The root image, which is large, goes along with `--with-root`;
    without, the other machine must have the same. `--json` prints JSON.

    \b
    Examples:
      ./atoll snapshot export kept:v1 kept.atoll
      ./atoll snapshot export kept --with-root kept.atoll
      ./atoll snapshot export kept - | ssh other ./atoll snapshot import -
    """
    hand_over("snapshot", "export", *context.args)


@snapshot_app.command("import", context_settings=PASSED_ON)
def import_(context: typer.Context) -> None:
    """Take in a snapshot that was exported, on a machine with the same Atoll. Sandboxes start from its name.

    It is restored once, to see that it can be. Take in only what you trust: it decides what gVisor's kernel
    has in memory. `--name NAME[:TAG]` calls it otherwise, `--json` prints JSON.

    \b
    Examples:
      ./atoll snapshot import kept.atoll
      ./atoll snapshot import kept.atoll --name theirs:v1
    """
    hand_over("snapshot", "import", *context.args)
