"""``hubctl job``: training runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl import document, texts
from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.output import printable
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import Session, of
from cloud_hub.app.hubctl.times import spoken
from cloud_hub.app.hubctl.watch import watch
from protos.v1 import training_pb2 as pb

app = typer.Typer(help="Training jobs.")

Id = Annotated[str, typer.Argument(help="Job id.")]
_ENDED = {pb.JOB_STATE_PUBLISHED, pb.JOB_STATE_REJECTED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED}


@app.command()
def run(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model name.")],
    priority: Annotated[str, typer.Option(help="low, normal or high; by default as the specification says.")] = "",
    executor: Annotated[str, typer.Option(help="local or ray; by default as the specification says.")] = "",
    workers: Annotated[int, typer.Option(help="Of ray.", min=0)] = 0,
    watch_: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
) -> None:
    """Train a model by its specification."""
    session = of(context)
    request = pb.RunJobRequest(model=model, priority=priority, executor=executor, workers=workers)
    with session.hub() as hub:
        _started(session, hub, hub.training.RunJob(request, timeout=TIMEOUT_S), watch_)


@app.command()
def validate(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file; - for standard input.")],
    dataset_check: Annotated[
        bool, typer.Option("--dataset-check", help="Look at the data set, too: kind, labels, samples of each class.")
    ] = False,
) -> None:
    """Say all that is wrong with a specification, and store nothing; exit 4 if there is anything."""
    session = of(context)
    request = pb.ValidateSpecRequest(yaml=texts.read(file), dataset_check=dataset_check)
    with session.hub() as hub:
        reply = hub.training.ValidateSpec(request, timeout=TIMEOUT_S)
    if session.out.json:
        session.out.document(plain(reply))
    for line in () if session.out.json else (*reply.problems, *reply.notes):
        session.out.told(" ".join(line.split()))
    if reply.problems:
        many = len(reply.problems)
        raise Failure(f"{file} cannot be used: {many} problem{'s' if many > 1 else ''}", ExitCode.REFUSED)
    if not session.out.json:
        session.out.told(f"{file} can be used")


@app.command()
def retry(
    context: typer.Context,
    id: Id,
    watch_: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
) -> None:
    """Run an ended job again: a new job on the specification that it had."""
    session = of(context)
    with session.hub() as hub:
        _started(session, hub, hub.training.RetryJob(pb.GetJobRequest(id=id), timeout=TIMEOUT_S), watch_)


@app.command("list")
def list_(
    context: typer.Context, model: Annotated[str, typer.Option(help="Of this model only.")] = "", limit: Limit = 100
) -> None:
    """List jobs, newest first."""
    session = of(context)
    with session.hub() as hub:
        jobs = listed(hub.training.ListJobs, pb.ListJobsRequest(model=model), "jobs", limit)
    columns = ("id", "model", "state", "trigger", "stage", "progress", "published_version", "created_at", "reason")
    session.out.rows(jobs, columns, empty="no jobs")


@app.command()
def get(context: typer.Context, id: Id) -> None:
    """Show one job."""
    session = of(context)
    with session.hub() as hub:
        session.out.record(plain(hub.training.GetJob(pb.GetJobRequest(id=id), timeout=TIMEOUT_S)))


@app.command()
def logs(
    context: typer.Context,
    id: Id,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends; exit 1 unless it published.")
    ] = False,
) -> None:
    """Print a job's progress lines."""
    session = of(context)
    with session.hub() as hub:
        if follow:
            _follow(session, hub, id)
            return
        stream = hub.training.WatchJob(pb.GetJobRequest(id=id))
        for progress in stream:
            if not progress.line:  # every line so far has been sent
                stream.cancel()
                return
            _print(session, progress)


@app.command()
def cancel(context: typer.Context, id: Id) -> None:
    """Stop a job."""
    session = of(context)
    with session.hub() as hub:
        job = hub.training.CancelJob(pb.GetJobRequest(id=id), timeout=TIMEOUT_S)
    session.out.done(f"job {id} is {_state(job)}", plain(job))


def _started(session: Session, hub: Hub, job: pb.Job, watched: bool) -> None:
    if not watched:
        session.out.done(f"job {job.id} is {_state(job)}", plain(job))
        return
    session.out.note(f"job {job.id}")
    _follow(session, hub, job.id)


@app.command()
def report(
    context: typer.Context,
    id: Id,
    out: document.Out,
) -> None:
    """Write what a job found out about its model, published or refused, as one HTML page that loads nothing."""
    request = pb.GetReportRequest(job_id=id, json=document.figures(of(context), out))
    document.save(of(context), lambda hub: hub.training.GetReport(request), out)


def _follow(session: Session, hub: Hub, id: str) -> None:
    """To the job's end. Raises Failure unless it published."""
    job = pb.Job(id=id)
    with session.out.progress(f"job {id}", 1.0) as bar:
        for progress in watch(_Lines(hub, id)):
            job = progress.job
            if progress.line or session.out.json:
                _print(session, progress)
            bar.at(job.progress, f"job {id} {job.stage or _state(job)}")
            bar.within(*_step(progress))
    if job.state == pb.JOB_STATE_PUBLISHED:
        session.out.note(f"job {id} published {job.model} version {job.published_version}")
        return
    if job.state in _ENDED:
        raise Failure(f"job {id} is {_state(job)}: {job.reason or 'no reason given'}", ExitCode.FAILED)
    raise Failure(f"the hub ended the watch of job {id}, which is {_state(job)}: watch again", ExitCode.UNREACHABLE)


def _step(progress: pb.JobProgress) -> tuple[float, str]:
    """How much of the network's training is done, 0..1, and where it is; nothing where none is trained."""
    if not progress.epochs or not progress.steps:
        return 0.0, ""
    done = (progress.epoch - 1 + progress.step / progress.steps) / progress.epochs
    at = f"epoch {progress.epoch}/{progress.epochs}, step {progress.step}/{progress.steps}, loss {progress.loss:.3f}"
    return done, at + (f", at most {spoken(progress.eta_s)} left" if progress.eta_s else "")


class _Lines:
    """Every line once: the hub sends them from the start whenever it is asked again."""

    def __init__(self, hub: Hub, id: str) -> None:
        self._hub = hub
        self._id = id
        self._seen = 0

    def __call__(self) -> Iterator[pb.JobProgress]:
        number = 0
        for progress in self._hub.training.WatchJob(pb.GetJobRequest(id=self._id)):
            if progress.line:
                number += 1
                if number <= self._seen:
                    continue
                self._seen = number
            yield progress


def _print(session: Session, progress: pb.JobProgress) -> None:
    if session.out.json:
        session.out.line(plain(progress))
    else:
        typer.echo(f"{plain(progress)['at']} {printable(progress.line)}")


def _state(job: pb.Job) -> str:
    return str(plain(job)["state"])
