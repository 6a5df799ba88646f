"""Training: specifications and jobs."""

from asyncio import sleep
from collections.abc import AsyncGenerator

from cloud_hub.core.model import JOB_ENDED, Job
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import model_from_pb, page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.training import StoredSpec, TrainingService
from protos.contract import ids
from protos.contract.telemetry import to_ms
from protos.v1 import training_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Training"]
_POLL_S = 0.3


class TrainingServicer:
    def __init__(self, training: TrainingService, threads: Threads) -> None:
        self._training = training
        self._threads = threads

    async def PutSpec(self, request: pb.PutSpecRequest, call: Call) -> pb.TrainingSpec:
        return spec_to_pb(await self._threads.call(self._training.put_spec, call.who, request.yaml))

    async def GetSpec(self, request: pb.GetSpecRequest, call: Call) -> pb.TrainingSpec:
        return spec_to_pb(await self._threads.call(self._training.get_spec, call.who, ids.model_name(request.model)))

    async def RunJob(self, request: pb.RunJobRequest, call: Call) -> pb.Job:
        return job_to_pb(await self._threads.call(self._training.run, call.who, ids.model_name(request.model)))

    async def GetJob(self, request: pb.GetJobRequest, call: Call) -> pb.Job:
        return job_to_pb(await self._threads.call(self._training.get, call.who, request.id))

    async def ListJobs(self, request: pb.ListJobsRequest, call: Call) -> pb.ListJobsReply:
        args = (model_from_pb(request.model), page_from_pb(request.page_size, request.page_token))
        jobs, following = await self._threads.call(self._training.list, call.who, *args)
        return pb.ListJobsReply(jobs=map(job_to_pb, jobs), next_page_token=following)

    async def CancelJob(self, request: pb.GetJobRequest, call: Call) -> pb.Job:
        return job_to_pb(await self._threads.call(self._training.cancel, call.who, request.id))

    async def WatchJob(self, request: pb.GetJobRequest, call: Call) -> AsyncGenerator[pb.JobProgress, None]:
        sent: Job | None = None
        after = 0
        while sent is None or sent.state not in JOB_ENDED:
            job = await self._threads.call(self._training.get, call.who, request.id)
            lines = await self._threads.call(self._training.lines, job.id, after)  # after the job: none is missed at its end
            for line in lines:
                yield pb.JobProgress(job=job_to_pb(job), line=line.text, at_ms=to_ms(line.at))
                after = line.number
            if not lines and job == sent:
                await sleep(_POLL_S)
            elif not lines:
                yield pb.JobProgress(job=job_to_pb(job))
                sent = job


def spec_to_pb(spec: StoredSpec) -> pb.TrainingSpec:
    return pb.TrainingSpec(model=spec.model, yaml=spec.yaml, updated_at_ms=to_ms(spec.updated_at))


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
