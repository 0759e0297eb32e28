"""The boundary around foreign decoders."""

import errno

import pytest

from atoken.core.errors import ReadError, reading
from refusals import refused


@pytest.mark.parametrize(
    "fault",
    [TypeError("x" * 5000), RecursionError(), MemoryError("373 GiB"), OSError(errno.EINVAL, "seek"), KeyError(3)],
)
def test_a_decoders_exception_becomes_one_sentence_about_the_file(fault):
    with refused("odd.bin", "export it", error=ReadError) as caught, reading("odd.bin", "export it as PNG"):
        raise fault
    assert caught.value.__cause__ is fault


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), OSError(errno.ENOSPC, "full"), ReadError("b.bin: more is known")]
)
def test_errors_that_are_not_about_the_content_pass(error):
    with pytest.raises(type(error)) as caught, reading("a.bin"):
        raise error
    assert caught.value is error


def test_a_message_of_two_lines_becomes_one():
    with refused("two lines"), reading("a.bin"):
        raise TypeError("two\nlines\x1b[31m")
