"""The agent's numbers as Prometheus reads them."""

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.serving import prometheus
from tests.edge_agent.serving.test_endpoint import PATH, ROW, post, serve, station, to_npy  # noqa: F401


def read(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_odd_names_stay_within_their_quotes():
    text = prometheus.render(
        [('a"b\\c\nd', "1", {"p50_ms": 0.5})], {"records": 3, "what": "text"}, {}, ['x"}']
    ).decode()
    told = read(text)
    assert told["aviary_agent_model", ("model", 'a"b\\c\nd'), ("version", "1")] == 1
    assert told["aviary_agent_spool", ("of", "records")] == 3
    assert told["aviary_agent_trouble", ("part", 'x"}')] == 1
    assert not any("what" in str(key) for key in told)


def test_a_running_agent_tells_what_runs_and_what_waits(station, serve):  # noqa: F811
    address = serve()
    assert post(address + PATH, to_npy(ROW))[0] == 200
    answer = urllib3.request("GET", f"{address}/metrics", retries=False)
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")
    told = read(answer.data.decode())
    assert told["aviary_agent_up",] == 1
    counts = [value for key, value in told.items() if ("of", "count") in key]
    assert counts == [1.0]


def test_with_a_token_only_who_brings_it_is_told(station, serve, tmp_path):  # noqa: F811
    path = tmp_path / "token"
    path.write_text("t" * 32)
    path.chmod(0o600)
    url = f"{serve(token_file=str(path))}/metrics"
    assert urllib3.request("GET", url, retries=False).status == 401
    headers = {"Authorization": f"Bearer {'t' * 32}"}
    assert urllib3.request("GET", url, headers=headers, retries=False).status == 200
