"""`make bench-ingest`: a table, then one last line of JSON with every figure by its key."""

import json
import os
import sys


def main() -> int:
    """Measures on the PostgreSQL and Valkey that the environment names, on an empty database."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    import django

    django.setup()
    from django.core.management import call_command

    from benchmarks.agent.figures import print_table
    from benchmarks.ingest import records, summaries
    from benchmarks.ingest.fleet import make_devices, make_release

    call_command("migrate", verbosity=0)
    senders = make_devices(make_release(), 512)
    figures = records.measure(senders) + summaries.measure(senders)
    print_table(figures)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(f"load {load:.1f} on {cores} cores, of which the benchmark itself makes about 3")
    print(json.dumps({figure.key: round(figure.value, 4) for figure in figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
