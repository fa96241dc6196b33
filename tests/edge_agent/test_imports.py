"""The agent's modules stand in an order: none imports itself by a detour, nor for its types."""

from graphlib import TopologicalSorter

import grimp

from edge_agent.config.provider_options import PROVIDERS


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = grimp.build_graph("edge_agent", cache_dir=None)
    assert len(graph.modules) > 80
    TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    ).prepare()


def test_each_execution_provider_is_one_row_with_options_of_its_own() -> None:
    for name, row in PROVIDERS.items():
        assert row.name == name and row.runtime_name.endswith("ExecutionProvider")
        named = {*row.defaults, *row.cache_paths, *row.without_cache}
        named |= {row.threads_option} - {""}
        assert named <= set(row.options), name
    assert len({row.runtime_name for row in PROVIDERS.values()}) == len(PROVIDERS)
