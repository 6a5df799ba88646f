"""``edge-agent``: what a person or a service manager calls on a device.

Exit status: 0 done; 1 it failed; 2 wrong usage or configuration; 3 the hub refused the ticket; 4 the hub cannot be reached, try
again. Every failure is one line on standard error that names what, where and what to do.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_agent.core import config
from edge_agent.core.errors import AgentError, ConfigError, LinkDown, Refused

OK, FAILED, USAGE, REFUSED, UNREACHABLE = range(5)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.command(asked))
    except ConfigError as error:
        return _complain(error, USAGE)
    except Refused as error:
        return _complain(error, REFUSED)
    except LinkDown as error:
        return _complain(error, UNREACHABLE)
    except (AgentError, OSError) as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return 130


def _run(asked: argparse.Namespace) -> int:
    from edge_agent.app.bootstrap import run

    settings = config.load(asked.config)
    if asked.data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=asked.data_dir)
    run(settings, max_frames=asked.max_frames)
    return OK


def _enroll(asked: argparse.Namespace) -> int:
    from edge_agent.sync.enroll import enroll

    identity = enroll(asked.ticket, asked.data_dir, force=asked.force)
    print(f"enrolled as {identity.device_id}; an agent that runs with {asked.data_dir} connects within seconds")
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
        "agent": status["agent_version"],
    }
    if update:
        named = f"{update['model']['name']}:{update['model']['version']}"
        rows["update"] = f"{named} {update['state']}" + (f": {update['reason']}" if update["reason"] else "")
    return "\n".join(f"{name:<11}{value}" for name, value in rows.items())


def _complain(error: Exception, status: int) -> int:
    print(f"edge-agent: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Runs models on this device, keeps working offline, and syncs with its hub.",
        epilog="exit status: 0 done, 1 failed, 2 usage or configuration, 3 the hub refused, 4 the hub cannot be reached",
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
    enroll.set_defaults(command=_enroll)

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


if __name__ == "__main__":
    sys.exit(main())
