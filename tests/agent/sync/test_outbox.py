"""Which messages the broker has still to answer for."""

from edge_agent.sync.outbox import Outbox


def test_messages_are_answered_in_any_order_and_counted_through_the_first_that_is_not() -> None:
    outbox = Outbox()
    assert [outbox.add(packet, 10) for packet in (7, 8, 9)] == [1, 2, 3]
    assert (outbox.answered_through, outbox.waiting_bytes) == (0, 30)
    outbox.answered(8)
    assert (outbox.answered_through, outbox.waiting_bytes) == (0, 20)
    outbox.answered(7)
    assert (outbox.answered_through, outbox.waiting_bytes) == (2, 10)


def test_an_answer_that_is_faster_than_the_note_of_its_message_counts() -> None:
    outbox = Outbox()
    outbox.answered(1)
    assert outbox.add(1, 10) == 1
    assert (outbox.answered_through, outbox.waiting_bytes) == (1, 0)
    assert outbox.add(1, 10) == 2, "packet ids are used again"
    assert outbox.waiting_bytes == 10


def test_a_new_connection_owes_nothing_and_counts_on() -> None:
    outbox = Outbox()
    outbox.add(1, 10)
    outbox.clear()
    assert (outbox.answered_through, outbox.waiting_bytes) == (1, 0)
    assert outbox.add(1, 10) == 2
