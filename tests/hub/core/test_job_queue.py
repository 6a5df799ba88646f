"""Which job is next."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.core.job_queue import AGEING, PATIENCE, Resources, Waiting, choose, order
from cloud_hub.core.spec_sections.resources import ResourceSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MACHINE = Resources(cpus=8, memory_mb=16_000, gpus=1)


def waiting(number: int, **values: object) -> Waiting:
    return Waiting(id=f"job-{number}", number=number, **{"since": NOW, **values})  # type: ignore[arg-type]


def first(queue: list[Waiting], free: Resources = MACHINE) -> str | None:
    job = choose(queue, MACHINE, free, NOW)
    return job.id if job is not None else None


def test_priority_comes_before_length_and_length_before_age() -> None:
    long, short, unknown = waiting(1, expected_s=900.0), waiting(2, expected_s=60.0), waiting(3)
    urgent = waiting(4, expected_s=9000.0, priority=75)
    assert [job.number for job in order([unknown, long, short, urgent], NOW)] == [4, 2, 1, 3]


def test_what_waits_becomes_more_urgent() -> None:
    old = waiting(1, priority=25, expected_s=900.0, since=NOW - 6 * AGEING)
    assert first([waiting(2, expected_s=1.0), old]) == "job-1"


def test_a_job_is_matched_to_what_the_machine_has() -> None:
    huge, gpu, small = waiting(1, wants=Resources(gpus=2)), waiting(2, wants=Resources(gpus=1)), waiting(3)
    assert first([huge, gpu, small]) == "job-2"
    assert first([huge, gpu, small], Resources(cpus=8, memory_mb=16_000)) == "job-3"
    assert MACHINE.lacks(huge.wants) == "2 GPUs, this machine has 1"


def test_a_process_takes_a_gpu_where_the_machine_has_so_many() -> None:
    two = Resources(cpus=8, gpus=2)
    assert [ResourceSpec().on(two, processes).gpus for processes in (1, 2, 4)] == [1, 2, 2]
    assert ResourceSpec(gpus=0).on(two, 2).gpus == 0


def test_small_jobs_pass_a_large_one_for_a_while_only() -> None:
    busy = Resources(cpus=2, memory_mb=16_000, gpus=1)
    large, small = waiting(1, wants=Resources(cpus=8), expected_s=1.0), waiting(2, expected_s=2.0)
    assert first([large, small], busy) == "job-2"
    patient = waiting(1, wants=Resources(cpus=8), expected_s=1.0, since=NOW - PATIENCE)
    assert first([patient, small], busy) is None


requests = st.builds(Resources, cpus=st.integers(1, 12), memory_mb=st.integers(0, 20_000), gpus=st.integers(0, 2))
queues = st.lists(
    st.builds(
        lambda number, priority, wants, expected, waited: waiting(
            number, priority=priority, wants=wants, expected_s=expected, since=NOW - timedelta(minutes=waited)
        ),
        st.integers(0, 10_000),
        st.sampled_from([25, 50, 75]),
        requests,
        st.none() | st.floats(0, 1e5),
        st.integers(0, 6000),
    ),
    max_size=12,
    unique_by=lambda job: job.number,
)


@given(queues, requests)
def test_what_is_chosen_fits_and_an_idle_machine_never_waits(queue: list[Waiting], free: Resources) -> None:
    chosen = choose(queue, MACHINE, free, NOW)
    assert chosen is None or (chosen.wants.fit(free) and not MACHINE.lacks(chosen.wants))
    runnable = [job for job in queue if not MACHINE.lacks(job.wants)]
    assert (choose(queue, MACHINE, MACHINE, NOW) is None) == (not runnable)
