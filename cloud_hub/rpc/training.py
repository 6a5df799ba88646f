"""Training: specifications and jobs."""

from asyncio import sleep
from collections.abc import AsyncGenerator, Iterator
from functools import partial

from cloud_hub.core import spec as specs
from cloud_hub.core import spec_notes, tasks
from cloud_hub.core.model import JOB_ENDED, Job, JobLine
from cloud_hub.core.tasks import TaskDeclaration
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import model_from_pb, page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.reports import ReportService
from cloud_hub.services.training import StoredSpec, TrainingService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.v1 import training_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Training"]
_POLL_S = 0.3


class TrainingServicer:
    def __init__(self, training: TrainingService, reports: ReportService, threads: Threads) -> None:
        self._training = training
        self._reports = reports
        self._threads = threads

    async def PutSpec(self, request: pb.PutSpecRequest, call: Call) -> pb.TrainingSpec:
        return spec_to_pb(await self._threads.call(self._training.put_spec, call.who, request.yaml))

    async def GetSpec(self, request: pb.GetSpecRequest, call: Call) -> pb.TrainingSpec:
        return spec_to_pb(await self._threads.call(self._training.get_spec, call.who, ids.model_name(request.model)))

    async def ValidateSpec(self, request: pb.ValidateSpecRequest, call: Call) -> pb.ValidateSpecReply:
        check = partial(self._training.check_spec, call.who, request.yaml, dataset=request.dataset_check)
        yaml, problems = await self._threads.call(check)
        return pb.ValidateSpecReply(problems=problems, yaml=yaml, notes=spec_notes.idle(specs.parse(yaml)) if yaml else ())

    async def ListTasks(self, request: pb.ListTasksRequest, call: Call) -> pb.ListTasksReply:
        return pb.ListTasksReply(tasks=[task_to_pb(tasks.find(name)) for name in tasks.names()])

    async def RunJob(self, request: pb.RunJobRequest, call: Call) -> pb.Job:
        asked = {"priority": request.priority, "executor": request.executor, "workers": request.workers}
        resources = {key: value for key, value in asked.items() if value}
        return job_to_pb(await self._threads.call(self._training.run, call.who, ids.model_name(request.model), resources))

    async def GetJob(self, request: pb.GetJobRequest, call: Call) -> pb.Job:
        return job_to_pb(await self._threads.call(self._training.get, call.who, request.id))

    async def ListJobs(self, request: pb.ListJobsRequest, call: Call) -> pb.ListJobsReply:
        args = (model_from_pb(request.model), page_from_pb(request.page_size, request.page_token))
        jobs, following = await self._threads.call(self._training.list, call.who, *args)
        return pb.ListJobsReply(jobs=map(job_to_pb, jobs), next_page_token=following)

    async def CancelJob(self, request: pb.GetJobRequest, call: Call) -> pb.Job:
        return job_to_pb(await self._threads.call(self._training.cancel, call.who, request.id))

    async def RetryJob(self, request: pb.GetJobRequest, call: Call) -> pb.Job:
        return job_to_pb(await self._threads.call(self._training.retry, call.who, request.id))

    def GetReport(self, request: pb.GetReportRequest, call: Call) -> AsyncGenerator[pb.ReportPiece, None]:
        return self._threads.each_as(lambda data: pb.ReportPiece(data=data), lambda: self._report(request, call))

    def _report(self, request: pb.GetReportRequest, call: Call) -> Iterator[bytes]:
        if request.job_id:
            return self._reports.of_job(call.who, request.job_id, json=request.json)
        return self._reports.of_version(call.who, ids.model_name(request.model), request.version, json=request.json)

    async def WatchJob(self, request: pb.GetJobRequest, call: Call) -> AsyncGenerator[pb.JobProgress, None]:
        sent: Job | None = None
        after = 0
        while sent is None or sent.state not in JOB_ENDED:
            job = await self._threads.call(self._training.get, call.who, request.id)
            lines = await self._threads.call(self._training.lines, job.id, after)  # after the job: none is missed at its end
            for line in lines:
                yield progress_to_pb(job, line)
                after = line.number
            if not lines and job == sent:
                await sleep(_POLL_S)
            elif not lines:
                yield progress_to_pb(job)
                sent = job


def spec_to_pb(spec: StoredSpec) -> pb.TrainingSpec:
    return pb.TrainingSpec(model=spec.model, yaml=spec.yaml, updated_at_ms=to_ms(spec.updated_at))


def task_to_pb(task: TaskDeclaration) -> pb.Task:
    return pb.Task(
        name=task.name,
        kind=task.kind.name.lower(),
        annotation=task.annotation.name.lower(),
        metric=task.metric.name,
        higher_is_better=task.metric.higher_is_better,
        bound=task.bound,
        losses=task.losses,
        augmentations=task.augmentations,
        sections=specs.sections(task),
    )


def progress_to_pb(job: Job, line: JobLine | None = None) -> pb.JobProgress:
    step = job.step
    return pb.JobProgress(
        job=job_to_pb(job),
        line=line.text if line else "",
        at_ms=to_ms(line.at) if line else 0,
        epoch=step.epoch if step else 0,
        epochs=step.epochs if step else 0,
        step=step.step if step else 0,
        steps=step.steps if step else 0,
        loss=step.loss if step else 0.0,
        eta_s=step.eta_s if step else 0.0,
    )


def job_to_pb(job: Job) -> pb.Job:
    return pb.Job(
        id=job.id,
        model=job.model,
        state=job.state,  # type: ignore[arg-type]  # numbers are the wire's
        trigger=job.trigger,
        trigger_detail=job.trigger_detail,
        stage=job.stage,
        progress=job.progress,
        attempts=job.attempts,
        reason=job.reason,
        published_version=job.published_version,
        created_at_ms=to_ms(job.created_at),
        started_at_ms=opt_to_ms(job.started_at),
        ended_at_ms=opt_to_ms(job.ended_at),
    )
