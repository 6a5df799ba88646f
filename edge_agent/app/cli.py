"""``edge-agent``: what a person or a service manager calls on a device.

Exit status: 0 done; 1 it failed; 2 wrong usage or configuration; 3 the hub refused the ticket or the certificate; 4 the hub
cannot be reached, try again; 5 an admin has to approve the key first, then give the same command again; 75 the agent has ended
to be started again, with another configuration, agent or image. Every failure is one
line on standard error that names what, where and what to do.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_agent.core import config, phone_home
from edge_agent.core.errors import AgentError, ConfigError, LinkDown, Refused, Restart, Unapproved

OK, FAILED, USAGE, REFUSED, UNREACHABLE, UNAPPROVED = range(6)
RESTART = 75  # EX_TEMPFAIL: whoever started the agent is to start it again
WAIT_S = 600.0  # for an admin who approves


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""
    phone_home.forbid()  # before anything imports a runtime
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.command(asked))
    except ConfigError as error:
        return _complain(error, USAGE)
    except Restart as error:
        return _complain(error, RESTART)
    except Refused as error:
        return _complain(error, REFUSED)
    except LinkDown as error:
        return _complain(error, UNREACHABLE)
    except Unapproved as error:
        return _complain(error, UNAPPROVED)
    except (AgentError, OSError) as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return 130


def _run(asked: argparse.Namespace) -> int:
    from edge_agent.infer.process import begun_early

    def load(overlay: Path | None) -> config.AgentConfig:
        settings = config.load(asked.config, overlay=overlay)
        return settings if asked.data_dir is None else dataclasses.replace(settings, data_dir=asked.data_dir)

    load(None)  # a mistake is told at once
    with begun_early() as blank:
        from edge_agent.app.bootstrap import Origin, run  # what takes long: the worker imports its own part meanwhile

        run(Origin(load=load, path=asked.config), max_frames=asked.max_frames, blank=blank)
    return OK


def _enroll(asked: argparse.Namespace) -> int:
    from edge_agent.sync.enroll import enroll, read_ticket

    ticket = read_ticket(asked.ticket)

    def waiting(fingerprint: str) -> None:
        print(f"waiting for approval: on the hub, 'hubctl device approve {ticket.device_id} {fingerprint}'", flush=True)

    identity = enroll(ticket, asked.data_dir, force=asked.force, wait_s=asked.wait, waiting=waiting)
    if not ticket.image_root:
        print("the ticket holds no roots of trust: this device takes no updates (on the hub, 'hubctl trust init')")
    print(f"enrolled as {identity.device_id}; an agent that runs with {asked.data_dir} connects within seconds")
    return OK


def _renew(asked: argparse.Namespace) -> int:
    from edge_agent.core.clock import SystemClock
    from edge_agent.sync.keys import FileKeys
    from edge_agent.sync.renew import renew

    renewed = renew(asked.data_dir, FileKeys(asked.data_dir), SystemClock())
    if renewed is not None:
        print(f"renewed: expires {renewed.not_after.isoformat(timespec='seconds')}; a running agent takes it up within seconds")
    return OK


def _status(asked: argparse.Namespace) -> int:
    from edge_agent.app.report import read_status

    status = read_status(asked.data_dir)
    if status is None:
        raise AgentError(f"no agent has run with {asked.data_dir}: start one with 'edge-agent run --data-dir {asked.data_dir}'")
    print(json.dumps(status, indent=2) if asked.output == "json" else _table(status))
    return OK


def _version(_: argparse.Namespace) -> int:
    print(version("tideline"))
    return OK


def _table(status: dict[str, Any]) -> str:
    health, model, update = status["health"], status["model"], status["update"]
    rows = {
        "state": ("running" if status["running"] else "not running") + (f" ({status['note']})" if status["note"] else ""),
        "as of": status["at"],
        "device": status["device"] or "-",
        "broker": "connected" if status["broker_connected"] else "not connected",
        "model": f"{model['name']}:{model['version']}" if model else "-",
        "update": "-",
        "inferences": f"{health['inferences']} ({health['inference_errors']} failed)",
        "latency": f"p50 {health['latency_p50_ms']:.1f} ms, p95 {health['latency_p95_ms']:.1f} ms",
        "spool": f"{health['spool_records']} records, {health['spool_bytes'] >> 10} KiB, {health['dropped_records']} dropped",
        "captures": f"{health['captures_pending']} waiting",
        "memory": f"{health['rss_bytes'] >> 20} MiB",
        "disk free": f"{health['disk_free_bytes'] >> 20} MiB",
        "runtimes": ", ".join(status["runtimes"]) or "none",
        "jail": _jail(status.get("jail", {})),
        "agent": status["agent_version"],
    }
    if update:
        named = f"{update['model']['name']}:{update['model']['version']}"
        rows["update"] = f"{named} {update['state']}" + (f": {update['reason']}" if update["reason"] else "")
    for package in status.get("packages", []):  # one written before an upgrade has none
        rows[package["kind"]] = f"{package['name']}:{package['version']}"
    for each in status.get("package_updates", []):
        kind = each["package"]["kind"]
        named = f"{each['package']['name']}:{each['package']['version']}"
        rows[f"{kind} update"] = f"{named} {each['state']}" + (f": {each['reason']}" if each["reason"] else "")
    if certificate := status.get("certificate"):  # one written before an upgrade has none
        rows["certificate"] = _certificate(certificate)
    return "\n".join(f"{name:<16}{value}" for name, value in rows.items())


def _jail(parts: dict[str, str]) -> str:
    """What holds the workers that run models, and what this kernel has not."""
    return ", ".join(name if standing == "holds" else f"NO {name} ({standing})" for name, standing in parts.items()) or "-"


def _certificate(certificate: dict[str, Any]) -> str:
    days = certificate["days_left"]
    if days is None:
        return certificate["problem"] or "-"
    text = f"expires {certificate['expires_at']}, {days:.0f} days left" if days > 0 else f"EXPIRED {certificate['expires_at']}"
    return text + (f"; {certificate['problem']}" if certificate["problem"] else "")


def _complain(error: Exception, status: int) -> int:
    print(f"edge-agent: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Runs models on this device, keeps working offline, and syncs with its hub.",
        epilog="exit status: 0 done, 1 failed, 2 usage or configuration, 3 the hub refused, 4 the hub cannot be "
        "reached, 5 an admin must approve first, 75 to be started again",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the agent until SIGTERM or SIGINT")
    run.add_argument("--config", type=Path, metavar="FILE", help="agent.yaml; files in conf.d/ beside it are read after it")
    run.add_argument("--data-dir", type=Path, metavar="DIR", help="overrides data_dir of the configuration")
    run.add_argument("--max-frames", type=_positive, metavar="N", help="end after N frames, or with the source")
    run.set_defaults(command=_run)

    enroll = commands.add_parser("enroll", help="trade a ticket from 'hubctl device create' for this device's identity")
    enroll.add_argument("--ticket", type=Path, metavar="FILE", required=True)
    enroll.add_argument("--data-dir", type=Path, metavar="DIR", default=config.AgentConfig().data_dir)
    enroll.add_argument("--force", action="store_true", help="replace the identity that is there")
    enroll.add_argument(
        "--wait",
        type=_seconds,
        metavar="S",
        default=WAIT_S,
        help=f"for an admin who approves (default {WAIT_S:.0f}); 0: not at all",
    )
    enroll.set_defaults(command=_enroll)

    renew = commands.add_parser("renew", help="renew the certificate now, beside an agent that runs or without one")
    renew.add_argument("--data-dir", type=Path, metavar="DIR", default=config.AgentConfig().data_dir)
    renew.set_defaults(command=_renew)

    status = commands.add_parser("status", help="show what the agent last said about itself")
    status.add_argument("--data-dir", type=Path, metavar="DIR", default=config.AgentConfig().data_dir)
    status.add_argument("--output", choices=("table", "json"), default="table")
    status.set_defaults(command=_status)

    commands.add_parser("version", help="print the version").set_defaults(command=_version)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more seconds, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
