"""Errors that leave an inner nursery."""

import pytest
import trio

from rookery.server.nurseries import only_error


async def fail(error: BaseException) -> None:
    raise error


async def test_error_that_is_alone_leaves_as_itself_with_its_cause() -> None:
    error, cause = ValueError("broken"), OSError("why")
    error.__cause__ = cause
    with pytest.raises(ValueError, match="broken") as raised, only_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, error)
    assert raised.value is error
    assert raised.value.__cause__ is cause


async def test_group_of_the_caller_stays_a_group() -> None:
    with pytest.raises(ExceptionGroup, match="mine") as raised, only_error():
        async with trio.open_nursery():
            raise ExceptionGroup("mine", [ValueError("one")])
    assert len(raised.value.exceptions) == 1


async def test_several_errors_stay_together() -> None:
    with pytest.RaisesGroup(ValueError, OSError), only_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, ValueError())
            nursery.start_soon(fail, OSError())
