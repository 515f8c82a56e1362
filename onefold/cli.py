"""The command line. Every error we raise on purpose is one sentence on standard error and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from onefold import cli_members
from onefold.errors import OnefoldError

app = typer.Typer(
    help="One folder, every machine, always identical.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo_app = typer.Typer(help="A whole cluster on this machine, to watch and to play with.", invoke_without_command=True)
leader_app = typer.Typer(help="Who leads.", no_args_is_help=True)
app.add_typer(demo_app, name="demo")
app.add_typer(leader_app, name="leader")

DATA = Path("data")
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The demo's directory.")]
Settings = Annotated[Path, typer.Option("--config", metavar="FILE", help="The node's settings (docs/settings.md).")]
MaybeSettings = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--config", metavar="FILE", help="A node's settings, instead of --data."),
]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]
Seconds = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to wait.")]


@demo_app.callback()
def demo(
    context: typer.Context,
    nodes: Annotated[Optional[int], typer.Option("--nodes", help="How many nodes, 1 to 9. [default: 3]")] = None,  # noqa: UP045
    data: Data = DATA,
    base_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--base-port", help="node1's first port; each node takes ten. [default: 7400]"),
    ] = None,
    writers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--writers", metavar="leader|any", help="Whose edits are replicated. [default: leader]"),
    ] = None,
) -> None:
    """Run a cluster on this machine until Ctrl-C. A second run in the same directory resumes it."""
    if context.invoked_subcommand is not None:
        return
    from onefold.demo import run
    from onefold.demo_dir import Wanted

    raise typer.Exit(run(data, Wanted(nodes, base_port, writers)))


@demo_app.command("stop")
def demo_stop(node: NodeName, data: Data = DATA) -> None:
    """Stop a node of the running demo, in order."""
    from onefold.demo_control import stop

    typer.echo(stop(data.absolute(), node))


@demo_app.command("start")
def demo_start(node: NodeName, data: Data = DATA) -> None:
    """Start a node of the running demo again, and wait until it is up."""
    from onefold.demo_control import start

    typer.echo(start(data.absolute(), node))


@demo_app.command("kill")
def demo_kill(
    node: NodeName,
    data: Data = DATA,
    node_only: Annotated[bool, typer.Option("--node-only", help="Only the node process; its etcd lives on.")] = False,
) -> None:
    """Kill a node (kill -9 of supervisor, etcd and node), as the death of its machine would."""
    from onefold.demo_control import kill

    typer.echo(kill(data.absolute(), node, node_only))


@app.command("run")
def run_node(config: Settings) -> None:
    """Run one node in the foreground, as a service would: its etcd member and the node, supervised."""
    from onefold.config import load
    from onefold.supervisor import run

    raise typer.Exit(run(load(config)))


@app.command("node", hidden=True)
def node_process(config: Settings) -> None:
    """The node process itself, as the supervisor starts it."""
    from onefold.config import load
    from onefold.run import main as run

    raise typer.Exit(run(load(config)))


@app.command()
def certify(
    config: Settings,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to put them, and the cluster's authority.")],
) -> None:
    """Make certificates for all members that FILE names; what is there already stays as it is."""
    from onefold.certify import certify as make
    from onefold.config import load

    for directory in make(load(config), out):
        typer.echo(f"{directory.name}: copy {directory} to its tls directory")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """How every node is. Fails if none answers."""
    from onefold import status as of

    cluster = of.cluster(of.settings(config, data))
    typer.echo(of.as_json(cluster)) if as_json else of.show(cluster)
    of.require_answer(cluster)


@app.command()
def wait(data: Data = DATA, config: MaybeSettings = None, timeout: Seconds = 60.0) -> None:
    """Wait until everything written before is in place on every live node."""
    from onefold import status as of

    of.wait(of.settings(config, data), timeout)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Read everything again on every live node, and name each difference. Fails (1) if there are any left."""
    from onefold import status as of
    from onefold.verify import run

    raise typer.Exit(run(of.settings(config, data), repair, as_json))


@app.command()
def confirm(
    node: Annotated[Optional[str], typer.Argument(metavar="NODE", help="Whose. [default: the one that asks]")] = None,  # noqa: UP045
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Confirm that what was gone from NODE's folder when it started was meant to go: it is removed everywhere."""
    from onefold import status as of

    name, removals = of.confirm(of.settings(config, data), node)
    if removals:
        typer.echo(f"{removals} files and directories that are gone from the folder of {name} are removed everywhere")
    else:
        typer.echo(f"nothing is to be confirmed{f' on {node}' if node else ''}")


@leader_app.command("show")
def leader_show(data: Data = DATA, config: MaybeSettings = None) -> None:
    """Print the leader's name."""
    from onefold import status as of

    cluster = of.cluster(of.settings(config, data))
    of.require_answer(cluster)
    typer.echo(of.require_leader(cluster))


@leader_app.command("move")
def leader_move(node: NodeName, data: Data = DATA, config: MaybeSettings = None) -> None:
    """Make NODE the leader."""
    from onefold import status as of

    moved = of.move(of.settings(config, data), node)
    typer.echo(f"{moved.leader} leads (term {moved.term})")


cli_members.register(app)


def main() -> None:
    """The entry point: no traceback for what is no bug."""
    try:
        app(prog_name="onefold")
    except OnefoldError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(error: OnefoldError) -> None:
    """End with the error's sentence and exit code."""
    print(f"onefold: {error}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(error.exit_code)
