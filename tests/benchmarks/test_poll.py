"""What is read from wrk's own words."""

import pytest

from benchmarks.poll.wrk import WrkError, read_output

SAID = """Running 8s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Latency Distribution
     50%    1.10ms
     99%  {late}
  {total} requests in {time}, 20.00MB read
{more}Requests/sec:  30042.92
"""


@pytest.mark.parametrize(("late", "ms"), [("5.15ms", 5.15), ("980.00us", 0.98), ("1.83s", 1830.0)])
def test_the_figures_of_a_run_are_read(late: str, ms: float) -> None:
    load = read_output(SAID.format(late=late, total=121099, time="4.03s", more=""))
    assert (load.requests, load.per_second, load.others) == (121099, 30042.92, 0)
    assert load.p99_ms == pytest.approx(ms)


def test_answers_that_failed_are_counted() -> None:
    more = (
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 90\n"
    )
    assert read_output(SAID.format(late="1.00ms", total=5, time="900ms", more=more)).others == 100


def test_other_words_are_no_figures() -> None:
    with pytest.raises(WrkError):
        read_output("unable to connect")
