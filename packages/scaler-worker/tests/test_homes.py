"""Which store large values go to and come from: the agent's decisions, step by step."""

from __future__ import annotations

from scaler_worker.core import effects, events
from scaler_worker.core import homes as h

X, Y, OWNER = b"x" * 16, b"y" * 16, b"a" * 16
ONE, TWO = "tcp://10.0.0.1:7", "tcp://10.0.0.2:7"


def with_home() -> h.Homes:
    homes = h.Homes()
    homes.has_home = True
    homes.on_centre(takes_homes=True)
    return homes


def hold(homes: h.Homes, object_id: bytes, request: int = 1) -> None:
    homes.put(effects.PutObject(request, object_id, OWNER))
    homes.on_put_at_home(events.ObjectStored(request))
    (_, told) = homes.take_steps()
    assert isinstance(told, h.TellHeld)
    homes.on_held(told, "")
    assert homes.take_steps() == [h.Report(events.ObjectStored(request))]


def test_without_a_home_or_a_centre_that_takes_it_results_go_to_the_centre() -> None:
    put = effects.PutObject(1, X, OWNER)
    homes = h.Homes()
    homes.put(put)
    homes.has_home = True
    homes.put(put)
    assert homes.take_steps() == [h.PutAtCentre(put), h.PutAtCentre(put)]


def test_a_result_is_reported_once_the_centre_knows_where_it_is() -> None:
    homes = with_home()
    put = effects.PutObject(1, X, OWNER)
    homes.put(put)
    assert homes.take_steps() == [h.PutAtHome(put)]
    homes.on_put_at_home(events.ObjectStored(1))
    told = h.TellHeld(1, OWNER, (X,))
    assert homes.take_steps() == [told]
    homes.on_held(told, "")
    assert homes.take_steps() == [h.Report(events.ObjectStored(1))]


def test_what_the_home_refuses_goes_to_the_centre_and_what_died_with_its_processor_is_reported() -> None:
    homes = with_home()
    put = effects.PutObject(1, X, OWNER)
    homes.put(put)
    homes.on_put_at_home(events.ObjectStored(1, "full"))
    assert homes.take_steps()[1:] == [h.PutAtCentre(put)]
    homes.put(put)
    lost = events.ObjectStored(1, "it has died", lost=True)
    homes.on_put_at_home(lost)
    assert homes.take_steps()[1:] == [h.Report(lost)]


def test_what_the_centre_refuses_is_deleted_at_home() -> None:
    homes = with_home()
    homes.put(effects.PutObject(1, X, OWNER))
    homes.on_put_at_home(events.ObjectStored(1))
    *_, told = homes.take_steps()
    assert isinstance(told, h.TellHeld)
    homes.on_held(told, "the client has ended", is_refused=True)
    assert homes.take_steps() == [
        h.DeleteAtHome(OWNER, (X,)),
        h.Report(events.ObjectStored(1, "the client has ended")),
    ]


def test_homes_are_asked_in_turn_then_the_centre_itself() -> None:
    homes = h.Homes()
    fetch = effects.FetchObject(1, X)
    homes.fetch(fetch)
    assert homes.take_steps() == [h.FetchAtCentre(fetch, follows=True)]
    homes.on_homes(1, (ONE, TWO), now=0.0)
    assert homes.take_steps() == [h.FetchAt(fetch, ONE)]
    homes.on_fetched_at(events.ObjectFetched(1, error="no connection"), ONE, 3.0, unreached=True)
    assert homes.take_steps() == [h.FetchAt(fetch, TWO)]
    homes.on_fetched_at(events.ObjectFetched(1, missing=True), TWO, 3.0)
    assert homes.take_steps() == [h.FetchAtCentre(fetch, follows=False)]
    homes.on_fetched_at_centre(events.ObjectFetched(1, error="it is lost"))
    text = f"it is lost (the store at {TWO}: does not have it)"
    assert homes.take_steps() == [h.Report(events.ObjectFetched(1, error=text))]


def test_a_home_that_was_not_reached_is_left_alone_for_a_while() -> None:
    homes = h.Homes()
    for request, now, expected in ((1, 0.0, [ONE]), (2, 59.0, []), (3, 61.0, [ONE])):
        fetch = effects.FetchObject(request, X)
        homes.fetch(fetch)
        homes.on_homes(request, (ONE,), now)
        steps = homes.take_steps()
        assert [step.address for step in steps if isinstance(step, h.FetchAt)] == expected
        if expected:
            homes.on_fetched_at(events.ObjectFetched(request, error="no connection"), ONE, now, unreached=True)


def test_what_is_at_home_is_read_there() -> None:
    homes = with_home()
    hold(homes, X)
    fetch = effects.FetchObject(2, X)
    homes.fetch(fetch)
    assert homes.take_steps() == [h.FetchAt(fetch, h.HOME)]
    homes.on_fetched_at(events.ObjectFetched(2, 7), h.HOME, 0.0)
    assert homes.take_steps() == [h.Report(events.ObjectFetched(2, 7))]


def test_a_delete_is_done_and_confirmed_also_twice() -> None:
    homes = with_home()
    hold(homes, X)
    homes.on_delete(OWNER, (X,))
    assert homes.take_steps() == [h.DeleteAtHome(OWNER, (X,)), h.TellGone((X,))]
    homes.on_delete(OWNER, (X,))
    assert homes.take_steps() == [h.TellGone((X,))]


def test_a_delete_that_the_home_has_not_answered_follows_once_it_answers() -> None:
    homes = with_home()
    hold(homes, X)
    hold(homes, Y)
    homes.on_delete(OWNER, (X,))
    delete, _ = homes.take_steps()
    assert isinstance(delete, h.DeleteAtHome)
    homes.on_deleted_at_home(delete, "no answer for 30 s")
    assert not homes.take_steps()
    homes.on_delete(OWNER, (Y,))
    other, _ = homes.take_steps()
    assert other == h.DeleteAtHome(OWNER, (Y,))
    homes.on_deleted_at_home(h.DeleteAtHome(OWNER, (Y,)), "")
    assert homes.take_steps() == [delete]
    homes.on_deleted_at_home(delete, "no answer for 30 s")
    put = effects.PutObject(3, Y, OWNER)
    homes.put(put)
    homes.on_put_at_home(events.ObjectStored(3))
    assert homes.take_steps() == [h.PutAtHome(put), delete, h.TellHeld(3, OWNER, (Y,))]
    homes.on_deleted_at_home(delete, "")
    assert not homes.take_steps()


def test_a_delete_does_not_follow_what_is_put_again_or_has_ended_with_the_home() -> None:
    homes = with_home()
    hold(homes, X)
    homes.on_delete(OWNER, (X,))
    delete, _ = homes.take_steps()
    assert isinstance(delete, h.DeleteAtHome)
    homes.on_deleted_at_home(delete, "no answer for 30 s")
    hold(homes, X)
    homes.on_deleted_at_home(h.DeleteAtHome(OWNER, (Y,)), "no answer for 30 s")
    homes.on_home_ended()
    homes.take_steps()
    homes.on_deleted_at_home(delete, "the link was closed")
    homes.has_home = True
    homes.on_deleted_at_home(delete, "")
    assert not homes.take_steps()


def test_an_object_is_uploaded_once_however_often_it_is_asked_for() -> None:
    homes = with_home()
    hold(homes, X)
    homes.on_wanted(X)
    homes.on_wanted(X)
    assert homes.take_steps() == [h.Upload(X, OWNER)]
    homes.on_uploaded(X)
    homes.on_wanted(X)
    homes.on_uploaded(X, is_lost=True)
    assert homes.take_steps() == [h.Upload(X, OWNER), h.TellGone((X,))]
    homes.on_wanted(Y)
    assert homes.take_steps() == [h.TellGone((Y,))]


def test_a_delete_during_an_upload_is_confirmed_after_it() -> None:
    homes = with_home()
    hold(homes, X)
    homes.on_wanted(X)
    homes.on_delete(OWNER, (X,))
    assert homes.take_steps() == [h.Upload(X, OWNER), h.DeleteAtHome(OWNER, (X,))]
    homes.on_uploaded(X)
    assert homes.take_steps() == [h.TellGone((X,))]


def test_a_host_that_leaves_uploads_all_it_has() -> None:
    homes = with_home()
    hold(homes, X)
    hold(homes, Y, 2)
    assert homes.hand_over() == 2
    homes.on_uploaded(X)
    homes.on_uploaded(Y)
    assert homes.uploads == 0


def test_another_centre_is_told_everything_and_one_that_takes_nothing_is_not() -> None:
    homes = with_home()
    hold(homes, X)
    homes.on_centre(takes_homes=True)
    assert homes.take_steps() == [h.TellHeld(0, OWNER, (X,))]
    # It does not answer: the object stays.
    homes.on_held(h.TellHeld(0, OWNER, (X,)), "no answer")
    assert homes.take_steps() == []
    homes.on_centre(takes_homes=False)
    assert homes.take_steps() == []


def test_the_end_of_a_home_is_told_and_results_go_to_the_centre() -> None:
    homes = with_home()
    hold(homes, X)
    homes.on_home_ended()
    put = effects.PutObject(3, Y, OWNER)
    homes.put(put)
    assert homes.take_steps() == [h.TellGone((X,)), h.PutAtCentre(put)]
    assert homes.held == 0
