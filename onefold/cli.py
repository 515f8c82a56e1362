"""The command line. Every error we raise on purpose is one sentence on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from onefold import cli_members
from onefold.errors import OnefoldError
from onefold.options import with_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo_app = typer.Typer(help="A whole cluster on this machine, to watch and to play with.", invoke_without_command=True)
config_app = typer.Typer(help="A node's settings.", no_args_is_help=True)
leader_app = typer.Typer(help="Who leads.", no_args_is_help=True)
service_app = typer.Typer(help="A node as a service of systemd.", no_args_is_help=True)
app.add_typer(demo_app, name="demo")
app.add_typer(config_app, name="config")
app.add_typer(leader_app, name="leader")
strays_app = typer.Typer(help="What was kept aside rather than lost, on all nodes.", no_args_is_help=True)
app.add_typer(strays_app, name="strays")
app.add_typer(service_app, name="service")

COMPLETING = "_ONEFOLD_COMPLETE"
"""Set by a shell that asks how a line goes on."""
DEMO = Path("data")
DemoData = Annotated[Path, typer.Option("--data", metavar="DIR", help="The demo's directory.")]
DATA = None
Data = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--data", metavar="DIR", help="A demo's directory."),
]
Settings = Annotated[Path, typer.Option("--config", metavar="FILE", help="The node's settings (docs/settings.md).")]
MaybeSettings = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
    typer.Option("--config", metavar="FILE", help="A node's settings. [default: see docs/commands.md]"),
]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]
FolderPath = Annotated[str, typer.Argument(metavar="PATH", help="A path in the folder.")]
MaybePath = Annotated[Optional[str], typer.Argument(metavar="PATH", help="A path in the folder. [default: all]")]  # noqa: UP045
StrayName = Annotated[str, typer.Argument(metavar="NODE/ID", help="As `onefold strays list` names it.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
IfMatch = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--if-match", metavar="DIGEST", help="Only over that content; `*`: only over what is there."),
]
Seconds = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to wait.")]


def print_version(asked: bool) -> None:
    """Before a command is missed: there need not be one."""
    if asked:
        from onefold import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def onefold(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version, and end.")
    ] = False,
) -> None:
    """One folder, every machine, always identical."""


@demo_app.callback()
def demo(
    context: typer.Context,
    nodes: Annotated[Optional[int], typer.Option("--nodes", help="How many nodes, 1 to 9. [default: 3]")] = None,  # noqa: UP045
    data: DemoData = DEMO,
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
def demo_stop(node: NodeName, data: DemoData = DEMO) -> None:
    """Stop a node of the running demo, in order."""
    from onefold.demo_control import stop

    typer.echo(stop(data.absolute(), node))


@demo_app.command("start")
def demo_start(node: NodeName, data: DemoData = DEMO) -> None:
    """Start a node of the running demo again, and wait until it is up."""
    from onefold.demo_control import start

    typer.echo(start(data.absolute(), node))


@demo_app.command("kill")
def demo_kill(
    node: NodeName,
    data: DemoData = DEMO,
    node_only: Annotated[bool, typer.Option("--node-only", help="Only the node process; its etcd lives on.")] = False,
) -> None:
    """Kill a node (kill -9 of supervisor, etcd and node), as the death of its machine would."""
    from onefold.demo_control import kill

    typer.echo(kill(data.absolute(), node, node_only))


@app.command("run")
@with_settings
def run_node(config: Settings, options: dict[str, str]) -> None:
    """Run one node in the foreground, as a service would: its etcd member and the node, supervised."""
    from onefold.config import load
    from onefold.supervisor import run

    raise typer.Exit(run(load(config, options), options))


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
    from onefold.find import find

    cluster = of.cluster(find(config, data))
    typer.echo(of.as_json(cluster)) if as_json else of.show(cluster)
    of.require_answer(cluster)


@app.command()
def wait(data: Data = DATA, config: MaybeSettings = None, timeout: Seconds = 60.0) -> None:
    """Wait until everything written before is in place on every live node."""
    from onefold import status as of
    from onefold.find import find

    of.wait(find(config, data), timeout)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Read everything again on every live node, and name each difference. Fails (1) if there are any left."""
    from onefold.find import find
    from onefold.verify import run

    raise typer.Exit(run(find(config, data), repair, as_json))


@app.command()
def confirm(
    node: Annotated[Optional[str], typer.Argument(metavar="NODE", help="Whose. [default: the one that asks]")] = None,  # noqa: UP045
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Confirm that what was gone from NODE's folder when it started was meant to go: it is removed everywhere."""
    from onefold import status as of
    from onefold.find import find

    name, removals = of.confirm(find(config, data), node)
    if removals:
        typer.echo(f"{removals} files and directories that are gone from the folder of {name} are removed everywhere")
    else:
        typer.echo(f"nothing is to be confirmed{f' on {node}' if node else ''}")


@config_app.command("show")
@with_settings
def config_show(
    options: dict[str, str],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Show every setting as `onefold run` with the same options would have it, and where it comes from."""
    from onefold.config_show import show
    from onefold.find import find

    show(config or find(None, data).path, options, as_json)


@config_app.command("check")
@with_settings
def config_check(options: dict[str, str], data: Data = DATA, config: MaybeSettings = None) -> None:
    """Check the settings, and say what is wrong with them. What the machine must provide is checked by `doctor`."""
    from onefold.config import load
    from onefold.find import find

    typer.echo(f"the settings in {load(config or find(None, data).path, options).path} are valid")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Check what a node needs of its machine, its files and the other members. Fails (1) if anything does not do."""
    from onefold.doctor.show import run
    from onefold.find import find

    raise typer.Exit(run(find(config, data), as_json))


UnitName = Annotated[str, typer.Option("--unit", metavar="NAME", help="The service's name.")]


@service_app.command("install")
def service_install(
    config: MaybeSettings = None,
    user: Annotated[str, typer.Option("--user", metavar="USER", help="Who runs it; made if missing.")] = "onefold",
    unit: UnitName = "onefold",
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit, and change nothing.")] = False,
) -> None:
    """Run the node as a service from now on, at every boot, with as few rights as it can do with.

    Settings that are given as variables now are written into the unit.
    """
    from onefold import service
    from onefold.find import find

    settings = find(config, None)
    if only_print:
        typer.echo(service.printed(settings, user, os.environ), nl=False)
        return
    for sentence in service.install(settings, user, unit, os.environ):
        typer.echo(sentence)


@service_app.command("uninstall")
def service_uninstall(unit: UnitName = "onefold") -> None:
    """Stop the service and remove it. What it worked with stays."""
    from onefold import service

    for sentence in service.uninstall(unit):
        typer.echo(sentence)


@service_app.command("status")
def service_status(
    unit: UnitName = "onefold",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """How the service is. Fails (3) if it does not run."""
    from onefold import service

    typer.echo(service.status(unit, as_json))


@leader_app.command("show")
def leader_show(data: Data = DATA, config: MaybeSettings = None) -> None:
    """Print the leader's name."""
    from onefold import status as of
    from onefold.find import find

    cluster = of.cluster(find(config, data))
    of.require_answer(cluster)
    typer.echo(of.require_leader(cluster))


@leader_app.command("move")
def leader_move(node: NodeName, data: Data = DATA, config: MaybeSettings = None) -> None:
    """Make NODE the leader."""
    from onefold import status as of
    from onefold.find import find

    moved = of.move(find(config, data), node)
    typer.echo(f"{moved.leader} leads (term {moved.term})")


@app.command()
def bench(
    edits: Annotated[int, typer.Option("--edits", min=0, help="How many edits of 1 KiB, one after another.")] = 200,
    files: Annotated[int, typer.Option("--files", min=0, help="How many files of 4 KiB, eight at a time.")] = 1000,
    large: Annotated[int, typer.Option("--large", metavar="MIB", min=0, help="The size of one large file.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Measure how long changes take in this cluster, in a directory of its own that is removed again."""
    from onefold.bench import run
    from onefold.find import find

    raise typer.Exit(run(find(config, data), edits, files, large, as_json))


@app.command()
def completion(
    shell: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="bash|zsh|fish", help="For which shell. [default: the one that you use]"),
    ] = None,
) -> None:
    """Print what makes a shell complete our commands and options.

    For bash: onefold completion bash > /etc/bash_completion.d/onefold; for zsh: onefold completion zsh > a file named
    _onefold in a directory of $fpath; for fish: onefold completion fish > ~/.config/fish/completions/onefold.fish.
    """
    from onefold.completion import script

    typer.echo(script(shell))


@app.command()
def ls(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A directory. [default: the folder itself]")] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="With mode, size and time.")] = False,
    as_json: Json = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """List what is committed in a directory; it may not stand in every folder yet."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.ls(find(config, data), path.strip("/"), long, as_json)


@app.command()
def cat(path: FolderPath, data: Data = DATA, config: MaybeSettings = None) -> None:
    """Write a file's committed content to standard output."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.cat(find(config, data), path)


@app.command()
def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of this machine, or - for standard input.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Where to. A directory when it ends with a slash.")],
    if_match: IfMatch = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only where nothing is.")] = False,
    mode: Annotated[Optional[str], typer.Option("--mode", metavar="MODE", help="As for chmod.")] = None,  # noqa: UP045
    as_json: Json = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Write FILE into the folder; returns once it is committed. Missing directories are made."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.put(find(config, data), file, path, if_match, if_absent, mode, as_json)


@app.command()
def rm(
    path: FolderPath,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="With all that is in it.")] = False,
    if_match: IfMatch = None,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Remove a file, symbolic link or directory, everywhere."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.rm(find(config, data), path, recursive, if_match)


@app.command()
def mv(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A path in the folder.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="Where to. A directory when it ends with a slash.")],
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Give a file or directory another path; nothing may be there."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.mv(find(config, data), source, to)


@app.command()
def watch(
    since: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--since", metavar="INDEX", min=0, help="Everything after this entry. [default: from now on]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each event.")] = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Show what changes, as it happens, and how long it took to be everywhere; until Ctrl-C."""
    from onefold import cli_watch
    from onefold.find import find

    cli_watch.watch(find(config, data), since, as_json)


@app.command()
def history(
    path: MaybePath = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")] = 20,
    as_json: Json = False,
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Show what became of PATH, under whichever names, or the newest changes; newest first."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.history(find(config, data), path, limit, as_json)


@strays_app.command("list")
def strays_list(as_json: Json = False, data: Data = DATA, config: MaybeSettings = None) -> None:
    """List what was kept aside, newest first."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.strays(find(config, data), as_json)


@strays_app.command("show")
def strays_show(stray: StrayName, data: Data = DATA, config: MaybeSettings = None) -> None:
    """Write a stray's content to standard output."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.stray_show(find(config, data), stray)


@strays_app.command("restore")
def strays_restore(
    stray: StrayName,
    to: Annotated[Optional[str], typer.Option("--to", metavar="PATH", help="Elsewhere than where it stood.")] = None,  # noqa: UP045
    data: Data = DATA,
    config: MaybeSettings = None,
) -> None:
    """Write a stray to where it stood, over what is there, or elsewhere; it is no stray then."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.stray_restore(find(config, data), stray, to)


@strays_app.command("drop")
def strays_drop(stray: StrayName, data: Data = DATA, config: MaybeSettings = None) -> None:
    """Remove a stray for ever."""
    from onefold import cli_files
    from onefold.find import find

    cli_files.stray_drop(find(config, data), stray)


cli_members.register(app)


def main() -> None:
    """The entry point: no traceback for what is no bug."""
    if COMPLETING in os.environ:
        from onefold.completion import prepare

        prepare()
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
